"""Two data sets in somebody else's training loop, stopped and continued on the very same samples.

Run: python examples/reuse/mixture.py (5 seconds on one CPU core)

The order of samples is a function of seed and number alone, so the loader's whole state is a number. It goes into their
checkpoint, and a run that was killed sees what it would have seen, with another number of workers as well.
"""

import sys
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from vla_kit.data import ChunkDataset, MemoryEpisode, MemorySource, Mixture, RobotReader, Sample
from vla_kit.data.lazy_parts import Part
from vla_kit.data.resumable_loader import ResumableLoader


def open_set(robot: str, width: int) -> RobotReader:
    """Stands for any reader of a file: five episodes of 20 frames whose numbers tell them apart."""
    frames = [np.arange(20)[:, None] + np.full((1, width), 100.0 * episode) for episode in range(5)]
    source = MemorySource([MemoryEpisode(columns={"action": rows}, instruction="go") for rows in frames], name=robot)
    return RobotReader(source, embodiment=robot)


def part(robot: str, width: int, weight: float) -> Part:
    """A share of the mixture; the set is opened in the process that first reads it."""
    return Part(
        name=robot, dataset=robot, location=f"memory:{robot}", fingerprint="1", embodiment=robot, length=100,
        weight=weight, open=partial(open_set, robot, width), windows=partial(ChunkDataset, horizon=4),
    )  # fmt: skip


def their_collate(samples: Sequence[Sample]) -> tuple[list[str], torch.Tensor]:
    """Robots, and a fingerprint of the actions; a real one would pad and stack."""
    return [sample.embodiment for sample in samples], torch.stack([sample.actions.sum() for sample in samples])


def loader() -> ResumableLoader:
    """Three quarters arm, one quarter base, in every stretch of the stream."""
    mixture = Mixture([part("arm", 7, weight=3), part("base", 3, weight=1)], seed=0)
    return ResumableLoader(mixture, collate=their_collate, batch_size=16, num_batches=20)


whole = list(loader())
robots = [robot for names, _ in whole for robot in names]
sys.stdout.write(f"arm {robots.count('arm')}, base {robots.count('base')} of {len(robots)} samples\n")

first, position = loader(), {}
for number, _ in enumerate(first):
    if number == 7:
        position = first.state_dict()  # into the checkpoint, with weights and optimiser
        break
again = loader()
again.load_state_dict(position)
rest = list(again)
same = all(torch.equal(a[1], b[1]) for a, b in zip(whole[8:], rest, strict=True))
sys.stdout.write(f"stopped after 8 batches, {len(rest)} came after the restart, equal to the unbroken run: {same}\n")
