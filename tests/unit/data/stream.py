"""Parts over data in memory, and batches that show what is in them, for the tests of mixtures and loaders."""

from functools import partial

import numpy as np
import torch

from vla_kit.actions import MaskedActions
from vla_kit.data.collate import Batch
from vla_kit.data.lazy_parts import Part
from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.data.robot_reader import RobotReader
from vla_kit.data.windows import ChunkDataset

OPENED: list[str] = []


def open_set(name, lengths):
    """A set whose actions tell set, episode and frame; every opening is counted."""
    OPENED.append(name)
    episodes = [
        MemoryEpisode(
            columns={"action": np.stack([np.full(length, float(i)), np.arange(length, dtype=float)], axis=1)},
            instruction=f"task {i % 2}",
        )
        for i, length in enumerate(lengths)
    ]
    return RobotReader(MemorySource(episodes, name=name, rate_hz=10), embodiment=name[0])


def make_part(dataset="a", lengths=(4, 3), **changes):
    """One part that is a whole set of chunks of two steps."""
    facts = {
        "name": dataset,
        "dataset": dataset,
        "location": f"memory:{dataset}",
        "fingerprint": f"{dataset}{lengths}",
        "embodiment": dataset[0],
        "length": sum(lengths),
        "open": partial(open_set, dataset, lengths),
        "windows": partial(ChunkDataset, horizon=2),
    }
    return Part(**facts | changes)


def collate(samples):
    """Identity of each sample, and one draw as augmentation would make."""
    where = torch.tensor([[sample.episode, sample.frame] for sample in samples])
    return Batch(
        embodiments=tuple(sample.embodiment for sample in samples),
        instructions=tuple(sample.instruction for sample in samples),
        sizes=tuple(sample.size for sample in samples),
        actions=MaskedActions.pad([sample.actions for sample in samples], channels=2),
        backbone_inputs={"where": where, "draw": torch.rand(len(samples))},
    )


def shown(batch):
    """Everything of a batch that could differ, to compare bit for bit."""
    places = [tuple(row) for row in batch.backbone_inputs["where"].tolist()]
    return list(zip(batch.embodiments, places, strict=True)), batch.backbone_inputs["draw"].tolist()
