"""Small LeRobot data sets, written by our writer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vla_kit.data.lerobot_writer import LeRobotWriter

IMAGE, VIDEO, STATE = "observation.images.wrist", "observation.images.top", "observation.state"
FEATURES = {
    "action": {"dtype": "float32", "shape": (3,), "names": ["x", "y", "grip"]},
    STATE: {"dtype": "float32", "shape": (2,)},
    VIDEO: {"dtype": "video", "shape": (32, 48, 3)},
    IMAGE: {"dtype": "image", "shape": (8, 10, 3)},
}


def make_episode(length: int, *, seed: int) -> dict[str, np.ndarray]:
    """Smooth video, noisy image, so that both codecs can be checked."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:32, 0:48]
    base = np.stack([4 * rows, 3 * columns, 2 * rows + columns], axis=-1)
    return {
        "action": rng.normal(size=(length, 3)).astype(np.float32),
        STATE: rng.normal(size=(length, 2)).astype(np.float32),
        VIDEO: np.stack([np.clip(base + 5 * step + 20 * (seed % 3), 0, 255) for step in range(length)]).astype(
            np.uint8
        ),
        IMAGE: rng.integers(0, 256, size=(length, 8, 10, 3), dtype=np.uint8),
    }


@pytest.fixture
def write_set(tmp_path: Path) -> Callable[..., tuple[Path, list[dict[str, np.ndarray]]]]:
    def write(
        name: str = "set", *, lengths: tuple[int, ...] = (5, 1, 7), seed: int = 0, words: str = "task"
    ) -> tuple[Path, list[dict[str, np.ndarray]]]:
        episodes = [make_episode(length, seed=seed + index) for index, length in enumerate(lengths)]
        with LeRobotWriter(tmp_path / name, rate_hz=10, features=FEATURES, robot_type="toy") as writer:
            for index, episode in enumerate(episodes):
                writer.add_episode(
                    episode["action"],
                    {key: episode[key] for key in (VIDEO, IMAGE)},
                    instruction=f"{words} {index % 2}",
                    columns={STATE: episode[STATE]},
                    seed=seed + index,
                )
        return tmp_path / name, episodes

    return write
