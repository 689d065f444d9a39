"""What every file format offers: episodes of named columns and cameras, as they were recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Int, UInt8
from numpy import ndarray
from torch import Tensor

from vla_kit.data.episodes import EpisodeInfo

__all__ = ["CameraInfo", "ColumnInfo", "EpisodeSource"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnInfo:
    """A column of numbers, one row per frame.

    Args:
        size: Numbers per frame.
        names: Name of each number, where the data set has them.

    Examples:
        >>> ColumnInfo(size=2, names=("x", "y")).size
        2
    """

    size: int
    names: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraInfo:
    """A camera, one RGB image per frame.

    Args:
        height: Height, where the metadata know it [pixel].
        width: Width, where the metadata know it [pixel].
        video: Whether its frames lie in videos, which cost time to open and to decode.

    Examples:
        >>> CameraInfo(height=96, width=128).video
        False
    """

    height: int | None = None
    width: int | None = None
    video: bool = False


@runtime_checkable
class EpisodeSource(Protocol):
    """A recorded data set, whatever its format on disk: the one thing that a new format has to provide.

    A source knows columns and cameras by the keys of its format and gives numbers as they were stored. What they mean
    for a robot is `RobotReader`'s business. Opening a source reads metadata alone, never a frame. A source survives
    pickling and forking, since data workers hold copies of it; open files are opened again there.

    Errors are `DataError`s that name file, key and remedy.
    """

    @property
    def name(self) -> str:
        """Name of the data set; the folder's or file's name unless it was given another."""
        ...

    @property
    def location(self) -> str:
        """Where the data set lies, for messages."""
        ...

    @property
    def rate_hz(self) -> float | None:
        """Frames per second; None where the format does not keep it."""
        ...

    @property
    def columns(self) -> Mapping[str, ColumnInfo]:
        """Columns of numbers by key."""
        ...

    @property
    def cameras(self) -> Mapping[str, CameraInfo]:
        """Cameras by key."""
        ...

    @property
    def lengths(self) -> Int[ndarray, " episode"]:
        """Frames of each episode, int64. Episodes are numbered from 0 without gaps."""
        ...

    @property
    def fingerprint(self) -> str:
        """Short digest that changes with the data set and not with its place. It need not read every byte."""
        ...

    def episode(self, index: int) -> EpisodeInfo:
        """What the metadata knows of an episode."""
        ...

    def instruction_at(self, index: int, frame: int) -> str:
        """What the robot was told at a frame; empty where the data set has no language."""
        ...

    def column(self, index: int, key: str) -> ndarray:
        """A column of an episode, `[step, size]` in its own dtype, as a copy.

        Raises:
            DataError: If there is no such column, or it holds NaN or infinity, or is incomplete.
        """
        ...

    def images(self, index: int, key: str, indices: Sequence[int]) -> UInt8[Tensor, "image 3 height image_width"]:
        """RGB frames of one camera of an episode, in the order of `indices`, repeats allowed.

        Raises:
            DataError: If there is no such camera, or a frame is missing or cannot be decoded.
        """
        ...
