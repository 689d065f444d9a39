"""Observations on which an export is compared with its policy."""

from collections.abc import Sequence

import numpy as np

from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.data.windows import ChunkDataset
from vla_kit.embodiment import EmbodimentSpec
from vla_kit.envs import make_env
from vla_kit.envs.protocol import robot_state
from vla_kit.policy import PolicyObservation

__all__ = ["of_data", "of_noise", "of_task"]


def of_data(data: DemonstrationSet, *, count: int) -> list[PolicyObservation]:
    """Frames of a data set, spread evenly.

    Args:
        data: The data set.
        count: Observations, at most as many as frames.

    Raises:
        DataError: If the data set is missing or broken.
    """
    reader = data.open(with_state=bool(data.state))
    frames = ChunkDataset(reader, horizon=1, history=data.history, episodes=data.episodes(reader))
    places = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    return [
        PolicyObservation(
            embodiment=data.embodiment,
            instruction=sample.instruction,
            views=sample.views,
            state=sample.state,
            frame_rate_hz=sample.frame_rate_hz,
        )
        for sample in frames.__getitems__(places.tolist())
    ]


def of_task(task: str, *, count: int, image_size: int) -> list[PolicyObservation]:
    """First pictures of episodes in a simulator.

    Args:
        task: Name in the registry, such as `metaworld/faucet-open`.
        count: Episodes, of the seeds 0, 1, 2, ...
        image_size: Height and width of the pictures [pixel].

    Raises:
        SettingError: If there is no such task.
        MissingExtraError: If the simulator is not installed.
    """
    env = make_env(task, image_size=image_size)
    try:
        seen = []
        for seed in range(count):
            words = env.reset(seed)
            seen.append(
                PolicyObservation(
                    embodiment=env.embodiment, instruction=words, views=env.look(), state=robot_state(env)
                )
            )
        return seen
    finally:
        env.close()


def of_noise(spec: EmbodimentSpec, *, views: Sequence[str], count: int, image_size: int) -> list[PolicyObservation]:
    """Invented observations: pictures and states of random numbers, for a policy without data at hand.

    Args:
        spec: Robot.
        views: Tags of its views.
        count: Observations.
        image_size: Height and width of the pictures [pixel].
    """
    rng = np.random.default_rng(0)
    states = 0 if spec.state_space is None else spec.state_space.size
    return [
        PolicyObservation(
            embodiment=spec.name,
            instruction="do the task",
            views={tag: rng.integers(0, 256, (image_size, image_size, 3), dtype=np.uint8) for tag in views},
            state=rng.uniform(size=states).astype(np.float32) if states else None,
        )
        for _ in range(count)
    ]
