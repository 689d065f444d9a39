"""How the public parts of `vla_kit.data` are built that neither read nor write files of a data set."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from contract_cases.probe import Case
from numpy import ndarray

from vla_kit.data.action_columns import ActionColumns
from vla_kit.data.action_recipe import ActionRecipe
from vla_kit.data.augment import ColorJitter, RandomShift
from vla_kit.data.balanced_shares import BalancedShares
from vla_kit.data.collate import Collate
from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.data.family_shares import FamilyShares
from vla_kit.data.feature_keys import lerobot_keys
from vla_kit.data.jobs.processes import ProcessExecutor
from vla_kit.data.lazy_parts import LazyParts, Part
from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.data.mirror import HandMirror
from vla_kit.data.mixture import Mixture
from vla_kit.data.order import MixtureOrder
from vla_kit.data.resumable_loader import ResumableLoader
from vla_kit.data.robot_reader import RobotReader
from vla_kit.data.sample import Sample
from vla_kit.data.source import ColumnInfo
from vla_kit.data.split import split_episodes
from vla_kit.data.statistics.actions import action_statistics
from vla_kit.data.statistics.columns import source_statistics
from vla_kit.data.statistics.feature import FeatureStatistics
from vla_kit.data.statistics.partial import PartialStatistics
from vla_kit.data.statistics.sketch import QuantileSketch
from vla_kit.data.windows import ChunkDataset, TrajectoryDataset


def memory_episode() -> MemoryEpisode:
    states = np.linspace(0.0, 1.0, 12).reshape(4, 3)
    columns = {"action": states, "state": states, "seen": np.ones((4, 1))}
    return MemoryEpisode(columns=columns, cameras={"top": pictures()}, instruction="push")


def pictures() -> ndarray:
    return np.zeros((4, 6, 8, 3), dtype=np.uint8)


def source() -> MemorySource:
    return MemorySource([memory_episode()], rate_hz=10.0)


def reader() -> RobotReader:
    return RobotReader(source(), embodiment="arm")


def relative_reader() -> RobotReader:
    """Actions that depend on where a chunk begins."""
    chunk = ActionColumns("action", representation="delta_chunk", reference="state")
    return RobotReader(source(), embodiment="arm", actions=[chunk])


def part() -> Part:
    return Part(**part_arguments(Path()))


def part_arguments(_: Path) -> dict[str, Any]:
    return {
        "name": "push",
        "dataset": "memory",
        "location": "memory:memory",
        "fingerprint": "6a09e667f3bcc908",
        "embodiment": "arm",
        "instruction": "push",
        "length": 4,
        "weight": 1.0,
        "open": reader,
        "windows": lambda opened: ChunkDataset(opened, horizon=2),
    }


def sample_arguments(_: Path) -> dict[str, Any]:
    return {
        "embodiment": "arm",
        "instruction": "push",
        "views": {"front": torch.zeros(3, 6, 8, dtype=torch.uint8)},
        "actions": torch.zeros(2, 3),
        "valid": torch.tensor([True, False]),
        "dataset": "demo",
        "episode": 1,
        "frame": 7,
        "state": torch.zeros(3),
        "frame_rate_hz": 2.0,
        "known": torch.ones(2, 3, dtype=torch.bool),
    }


def episode_in_memory(actions: ndarray, pictures: ndarray, *, instruction: str) -> None:
    """`MemorySource` checks what a `MemoryEpisode` holds, and numbers when they are read."""
    episode = MemoryEpisode(columns={"actions": actions}, cameras={"pictures": pictures}, instruction=instruction)
    MemorySource([episode]).column(0, "actions")


def sample_of_one_view(image: torch.Tensor) -> None:
    Sample(**(sample_arguments(Path()) | {"views": {"image": image}}))


def resumed(samples: int, epoch_samples: int, parts: dict[str, str]) -> None:
    """A loader goes on from a state that somebody saved."""
    loader().load_state_dict({"samples": samples, "epoch_samples": epoch_samples, "parts": parts})


def loader() -> ResumableLoader:
    return ResumableLoader(**loader_arguments(Path()))


def loader_arguments(_: Path) -> dict[str, Any]:
    return {
        "mixture": Mixture([part()]),
        "collate": len,
        "batch_size": 2,
        "num_batches": 3,
        "rank": 1,
        "world_size": 2,
        "num_workers": 1,
        "pin_memory": False,
    }


ANY_SEED = {"seed": ("-1", "0")}

CASES = [
    Case(
        ActionColumns,
        lambda folder: {
            "column": "action",
            "channels": "0:6",
            "representation": "delta_chunk",
            "reference": "state",
            "reference_channels": "1:7",
            "rotation": "axis_angle",
            "output": "rotation_6d",
            "frame": "body",
            "pseudo": False,
            "seen": "seen",
        },
    ),
    Case(
        ActionRecipe,
        lambda folder: {
            "pieces": [ActionColumns("action")],
            "columns": {"action": ColumnInfo(size=3)},
            "location": "memory:memory",
        },
        meant={"location": ("empty",)},  # for messages alone
        named={"pieces": "actions", "columns": "column"},  # `actions` of RobotReader, which is what a user wrote
    ),
    Case(RandomShift, lambda folder: {"pixels": 4}, meant={"pixels": ("0",)}),
    Case(ColorJitter, lambda folder: {"brightness": 0.2, "contrast": 0.2}),
    Case(BalancedShares, lambda folder: {"by": ("embodiment", "instruction")}),
    Case(
        Collate,
        lambda folder: {
            "prepare": lambda seen: {},
            "prompter": lambda name, text: text,
            "channels": 8,
            "horizon": 4,
            "augment": RandomShift(1),
            "states": None,
            "announce": None,
            "augment_sample": None,
        },
    ),
    Case(
        DemonstrationSet,
        lambda folder: {
            "root": "data/reach",
            "embodiment": "metaworld_sawyer",
            "actions": ["action"],
            "state": ["observation.state"],
            "views": {"front": "observation.images.top"},
            "history": None,
            "weight": 1.0,
            "name": "reach",
            "stride": 1,
            "num_episodes": 5,
            "rate_hz": 10.0,
            "decisions": "reach.decisions.json",
            "captions": None,
            "cache_frames": False,
            "frame_cache": "frames",
            "options": {"language": "annotation.human.task"},
        },
        meant={"state": ("empty",), "views": ("empty",), "options": ("empty",)},  # none
    ),
    Case(
        FamilyShares,
        lambda folder: {"families": {"a": "real", "b": "made"}, "shares": {"real": 80.0, "made": 20.0}},
        meant={"families": ("empty",)},  # `weights` refuses data sets without a family, and names them
        named={"shares": "families"},  # which of the two is wrong nobody knows
    ),
    Case(
        lerobot_keys,
        lambda folder: {"columns": ["actions", "obs/ee_pos"], "cameras": ["obs/top"], "overrides": {"obs/top": "top"}},
        meant={"overrides": ("empty",)},
        named={"columns": "keys", "cameras": "keys"},  # the argument of write_lerobot
    ),
    Case(ProcessExecutor, lambda folder: {"workers": 2}),
    Case(
        Part,
        part_arguments,
        meant={
            "location": ("empty",),  # for messages alone
            "fingerprint": ("empty",),  # of a set that nobody resumes
            "embodiment": ("empty",),  # of conversations
            "instruction": ("empty",),  # of episodes without language
        },
    ),
    Case(LazyParts, lambda folder: {"parts": [part()], "open_sets": 4}),
    Case(
        Mixture,
        lambda folder: {"parts": [part()], "weights": [1.0], "seed": 7, "open_sets": 4},
        meant=ANY_SEED,
        named={"parts": "part"},
    ),
    Case(
        MixtureOrder,
        lambda folder: {"sizes": [2, 5], "weights": [1.0, 3.0], "seed": 7},
        meant=ANY_SEED,
        named={"sizes": "weights"},  # which of the two is too short nobody knows
    ),
    Case(
        ResumableLoader,
        loader_arguments,
        meant={"rank": ("0",), "num_workers": ("0",)},  # the first one; this process
    ),
    Case(
        resumed,
        lambda folder: {"samples": 8, "epoch_samples": 4, "parts": Mixture([part()]).fingerprints},
        meant={"samples": ("0",), "epoch_samples": ("0",)},  # at the very beginning
        named={"parts": "mixture"},
    ),
    Case(
        RobotReader,
        lambda folder: {
            "source": source(),
            "embodiment": "arm",
            "actions": [ActionColumns("action")],
            "state": [ActionColumns("state")],
            "views": {"front": "top"},
            "rate_hz": 10.0,
            "captions": None,
            "cache_frames": True,
        },
        meant={"state": ("empty",), "views": ("empty",)},  # none
    ),
    Case(
        Sample,
        sample_arguments,
        meant={
            "instruction": ("empty",),  # a data set without language
            "views": ("empty",),  # text alone
            "episode": ("0",),
            "frame": ("0",),
        },
    ),
    Case(sample_of_one_view, lambda folder: {"image": torch.zeros(4, 3, 6, 8, dtype=torch.uint8)}),
    Case(
        MemorySource,
        lambda folder: {"episodes": [memory_episode()], "name": "memory", "rate_hz": 10.0},
    ),
    Case(
        episode_in_memory,
        lambda folder: {"actions": np.ones((4, 2)), "pictures": pictures(), "instruction": "push"},
        meant={"instruction": ("empty",)},
    ),
    Case(HandMirror, lambda folder: {"probability": 0.5, "embodiments": ["human_hands"]}),
    Case(
        split_episodes,
        lambda folder: {"episodes": [3, 4, 5], "share": 0.5, "seed": 7},
        meant=ANY_SEED | {"episodes": ("empty",)},  # nothing divides into nothing and nothing
        named={"share": "validation_share"},
    ),
    Case(
        ChunkDataset,
        lambda folder: {"reader": reader(), "horizon": 2, "stride": 1, "history": None, "episodes": [0]},
        left={"seconds": "in place of horizon, see the next case"},
    ),
    Case(
        ChunkDataset,
        lambda folder: {"reader": reader(), "seconds": 0.2, "stride": 1, "history": None, "episodes": [0]},
        left={"horizon": "in place of seconds, see the case before"},
    ),
    Case(
        TrajectoryDataset,
        lambda folder: {"reader": reader(), "horizon": 4, "with_views": True, "episodes": [0]},
        left={"seconds": "in place of horizon, see the next case"},
    ),
    Case(
        TrajectoryDataset,
        lambda folder: {"reader": reader(), "seconds": 0.4, "with_views": True, "episodes": [0]},
        left={"horizon": "in place of seconds, see the case before"},
    ),
    Case(
        action_statistics,
        lambda folder: {
            "reader": relative_reader(),
            "episodes": [0],
            "horizon": 2,
            "cache": None,
            "executor": None,
            "exact_bytes": 10**6,
        },
        meant={"exact_bytes": ("0",)},  # keep nothing
        named={"episodes": "episodes"},
    ),
    Case(
        source_statistics,
        lambda folder: {
            "source": source(),
            "columns": ["action"],
            "episodes": [0],
            "cache": None,
            "executor": None,
            "exact_bytes": 10**6,
        },
        meant={"exact_bytes": ("0",), "columns": ("empty",)},  # keep nothing; of none
    ),
    Case(FeatureStatistics, lambda folder: {"size": 3, "exact_bytes": 10**6}, meant={"exact_bytes": ("0",)}),
    Case(PartialStatistics, lambda folder: {"size": 3, "exact_bytes": 10**6}, meant={"exact_bytes": ("0",)}),
    Case(QuantileSketch, lambda folder: {"size": 3}),
]

WITHOUT_CASE = {
    "vla_kit.data.collate.Batch": "Collate fills it; the policy checks its tensors where it uses them",
    "vla_kit.data.conversion.Conversion": "what write_lerobot answers",
    "vla_kit.data.episodes.EpisodeInfo": "what a source answers",
    "vla_kit.data.feature_keys.FeatureKeys": "what lerobot_keys answers",
    "vla_kit.data.jobs.executor.SerialExecutor": "takes nothing",
    "vla_kit.data.memory_source.MemoryEpisode": "MemorySource checks it: see episode_in_memory",
    "vla_kit.data.source.CameraInfo": "what a source answers about its camera",
    "vla_kit.data.source.ColumnInfo": "what a source answers about its column",
    "vla_kit.data.statistics.actions.ActionPart": "checked where it is counted: see action_statistics",
    "vla_kit.data.statistics.columns.ColumnSummary": "what summarize_columns answers",
    "vla_kit.data.statistics.published.Mismatch": "what compare_published answers",
}
