"""Data: samples, windows over episodes, batches and augmentation. Readers and writers are named in full."""

from vla_kit.data.action_columns import ActionColumns
from vla_kit.data.action_recipe import ActionRecipe
from vla_kit.data.augment import ColorJitter, RandomShift
from vla_kit.data.collate import Batch, Collate
from vla_kit.data.episodes import EpisodeInfo, EpisodeReader
from vla_kit.data.hand_actions import hand_columns
from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.data.mirror import HandMirror, mirror_sample, mirror_words
from vla_kit.data.mixture import Mixture
from vla_kit.data.order import MixtureOrder
from vla_kit.data.robot_reader import RobotReader
from vla_kit.data.sample import Sample
from vla_kit.data.source import CameraInfo, ColumnInfo, EpisodeSource
from vla_kit.data.split import split_episodes
from vla_kit.data.video import VideoDecoder, open_video
from vla_kit.data.windows import ChunkDataset, TrajectoryDataset

__all__ = [
    "ActionColumns",
    "ActionRecipe",
    "Batch",
    "CameraInfo",
    "ChunkDataset",
    "Collate",
    "ColorJitter",
    "ColumnInfo",
    "EpisodeInfo",
    "EpisodeReader",
    "EpisodeSource",
    "HandMirror",
    "MemoryEpisode",
    "MemorySource",
    "Mixture",
    "MixtureOrder",
    "RandomShift",
    "RobotReader",
    "Sample",
    "TrajectoryDataset",
    "VideoDecoder",
    "hand_columns",
    "mirror_sample",
    "mirror_words",
    "open_video",
    "split_episodes",
]
