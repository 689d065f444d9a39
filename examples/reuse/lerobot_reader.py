"""Read a LeRobot data set of any version in your own training loop: chunks, masks, statistics, no model of vla-kit.

python examples/reuse/lerobot_reader.py [FOLDER] [CAMERA KEY]

Without a folder it writes a small data set first. Needs no download; takes a few seconds.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from rich import print
from torch.utils.data import DataLoader

from vla_kit.data import ChunkDataset, Sample
from vla_kit.data.lerobot_writer import LeRobotWriter
from vla_kit.data.readers.lerobot import open_lerobot
from vla_kit.data.robot_reader import RobotReader
from vla_kit.data.statistics import action_statistics

CAMERA = "observation.images.top"


def write_demo(root: Path) -> None:
    """Four episodes of a dot that walks to the right."""
    features = {"action": {"dtype": "float32", "shape": (2,)}, CAMERA: {"dtype": "image", "shape": (32, 32, 3)}}
    with LeRobotWriter(root, rate_hz=10, features=features, robot_type="dot") as writer:
        for seed in range(4):
            frames = np.zeros((20, 32, 32, 3), dtype=np.uint8)
            frames[np.arange(20), 8 + seed, np.arange(20) + 5] = 255
            actions = np.tile(np.float32([1.0, 0.0]), (20, 1))
            writer.add_episode(actions, {CAMERA: frames}, instruction="move to the right", seed=seed)


def stack(samples: list[Sample]) -> tuple[torch.Tensor, ...]:
    """Images, actions and the mask of steps within the episode."""
    items = [(sample.views["top"], sample.actions, sample.valid) for sample in samples]
    return tuple(torch.stack(parts) for parts in zip(*items, strict=True))


def main() -> None:
    """Print what a policy would get."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "dot"
        if len(sys.argv) == 1:
            write_demo(root)
        key = sys.argv[2] if len(sys.argv) > 2 else CAMERA
        reader = RobotReader(open_lerobot(root), embodiment="any", views={"top": key})
        print(f"{reader.name}: {reader.num_episodes} episodes, {reader.lengths.sum()} frames, {reader.rate_hz:g} Hz")
        print(f"first instruction: {reader.episode(0).instruction}")
        stats = action_statistics(reader)
        print(f"1 % and 99 % quantiles: {stats.q01.tolist()} {stats.q99.tolist()}")
        loader = DataLoader(ChunkDataset(reader, horizon=8), batch_size=16, shuffle=True, collate_fn=stack)
        images, actions, valid = next(iter(loader))
        print(f"images {tuple(images.shape)}, actions {tuple(actions.shape)}, steps past an end {int((~valid).sum())}")


if __name__ == "__main__":
    main()
