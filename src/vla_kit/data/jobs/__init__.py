"""Work over blocks of episodes: in this process, in several, or on a Ray cluster, with the same functions."""

from vla_kit.data.jobs.blocks import episode_blocks
from vla_kit.data.jobs.choice import choose_executor
from vla_kit.data.jobs.executor import Executor, SerialExecutor

__all__ = ["Executor", "SerialExecutor", "choose_executor", "episode_blocks"]
