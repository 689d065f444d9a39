"""Data: samples, windows over episodes, batches and augmentation. Readers and writers are named in full."""

from vla_kit.data.augment import ColorJitter, RandomShift
from vla_kit.data.collate import Batch, Collate
from vla_kit.data.episodes import EpisodeInfo, EpisodeReader
from vla_kit.data.sample import Sample
from vla_kit.data.video import VideoDecoder, open_video
from vla_kit.data.windows import ChunkDataset, TrajectoryDataset

__all__ = [
    "Batch",
    "ChunkDataset",
    "Collate",
    "ColorJitter",
    "EpisodeInfo",
    "EpisodeReader",
    "RandomShift",
    "Sample",
    "TrajectoryDataset",
    "VideoDecoder",
    "open_video",
]
