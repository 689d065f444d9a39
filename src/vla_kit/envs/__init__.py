"""Simulated robots behind one small protocol, and demonstrations recorded in them."""

from vla_kit.envs.collect import RecordedEpisode, collect, collect_episode
from vla_kit.envs.disturbance import Disturbance
from vla_kit.envs.protocol import Expert, PolicyEnv, Proprioceptive, SimulationError, StepResult, robot_state
from vla_kit.envs.random_policy import random_actions
from vla_kit.envs.registry import make_env, make_expert
from vla_kit.envs.tasks import PAIRS, TASKS, EnvTask, find_task

__all__ = [
    "PAIRS",
    "TASKS",
    "Disturbance",
    "EnvTask",
    "Expert",
    "PolicyEnv",
    "Proprioceptive",
    "RecordedEpisode",
    "SimulationError",
    "StepResult",
    "collect",
    "collect_episode",
    "find_task",
    "make_env",
    "make_expert",
    "random_actions",
    "robot_state",
]
