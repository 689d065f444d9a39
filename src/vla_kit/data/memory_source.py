"""Episodes that lie in memory, as a source: for tests, for generated data and for whoever has arrays already."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from torch import Tensor

from vla_kit.data._name import check_name
from vla_kit.data._rate import check_rate
from vla_kit.data.episodes import EpisodeInfo
from vla_kit.data.source import CameraInfo, ColumnInfo
from vla_kit.errors import DataError, DtypeError, ShapeError

__all__ = ["MemoryEpisode", "MemorySource"]


@dataclass(frozen=True, kw_only=True)
class MemoryEpisode:
    """One episode as arrays.

    Args:
        columns: Key -> numbers, `[step, size]`.
        cameras: Key -> RGB images, uint8 `[step, height, width, 3]`.
        instruction: What the robot was told; empty where it was told nothing.

    Examples:
        >>> len(MemoryEpisode(columns={"action": np.zeros((3, 2))}))
        3
    """

    columns: Mapping[str, Float[ndarray, "step size"]]
    cameras: Mapping[str, UInt8[ndarray, "step height image_width 3"]] = field(default_factory=dict)
    instruction: str = ""

    def __len__(self) -> int:
        return max((len(values) for values in (*self.columns.values(), *self.cameras.values())), default=0)


class MemorySource:
    """Episodes in memory; satisfies `EpisodeSource`.

    Args:
        episodes: The episodes. All have the same columns and cameras; every array has one row per frame.
        name: Name of the data set.
        rate_hz: Frames per second, where known.

    Raises:
        DataError: If there is no episode, or keys differ between episodes.
        ShapeError: If arrays of an episode differ in length, columns of one key in width, or an array has other axes.
        DtypeError: If a column holds no numbers, or pictures are not uint8.
        SettingError: If `name` is empty or `rate_hz` not above 0.

    Examples:
        >>> source = MemorySource([MemoryEpisode(columns={"action": np.eye(2)}, instruction="push")])
        >>> source.column(0, "action").tolist(), source.instruction_at(0, 1)
        ([[1.0, 0.0], [0.0, 1.0]], 'push')
    """

    def __init__(
        self, episodes: Sequence[MemoryEpisode], *, name: str = "memory", rate_hz: float | None = None
    ) -> None:
        check_name("name", name)
        check_rate(rate_hz)
        if not episodes:
            raise DataError("episodes must hold at least one episode, got none. Give the recorded episodes.")
        self._episodes = list(episodes)
        self._name, self._rate_hz = name, rate_hz
        first = self._episodes[0]
        for index, episode in enumerate(self._episodes):
            for part in ("columns", "cameras"):
                if set(getattr(episode, part)) != set(getattr(first, part)):
                    raise DataError(
                        f"episodes must share their {part} {sorted(getattr(first, part))}, got "
                        f"{sorted(getattr(episode, part))} in episode {index}. Give each episode all of them."
                    )
            for key, pixels in episode.cameras.items():
                if pixels.ndim != 4 or pixels.shape[3] != 3:
                    raise ShapeError(
                        f"{key} must have the shape (step, height, width, 3), got {pixels.shape} in episode {index}. "
                        "Give RGB, colour last."
                    )
                if pixels.dtype != np.uint8:
                    raise DtypeError(
                        f"{key} must be uint8 in [0, 255], got {pixels.dtype} in episode {index}. Keep raw pixels."
                    )
            for key, values in episode.columns.items():
                if values.dtype.kind not in "fiub":
                    raise DtypeError(
                        f"{key} must hold real numbers, got {values.dtype} in episode {index}. Convert with "
                        ".astype(float)."
                    )
                if values.ndim != 2 or values.shape[1] != first.columns[key].shape[1]:
                    raise ShapeError(
                        f"{key} must have the shape (step, {first.columns[key].shape[-1]}), got {values.shape} in "
                        f"episode {index}. Give one row per frame."
                    )
            for key, values in (*episode.columns.items(), *episode.cameras.items()):
                if len(values) != len(episode):
                    raise ShapeError(
                        f"{key} must have one row per frame ({len(episode)}), got {len(values)} in episode {index}. "
                        "Cut the arrays to one length."
                    )

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self._name

    @property
    def location(self) -> str:
        """`memory:` and the name."""
        return f"memory:{self._name}"

    @property
    def rate_hz(self) -> float | None:
        """Frames per second."""
        return self._rate_hz

    @property
    def columns(self) -> dict[str, ColumnInfo]:
        """Columns of numbers by key."""
        return {key: ColumnInfo(size=values.shape[1]) for key, values in self._episodes[0].columns.items()}

    @property
    def cameras(self) -> dict[str, CameraInfo]:
        """Cameras by key."""
        pictures = self._episodes[0].cameras
        return {key: CameraInfo(height=values.shape[1], width=values.shape[2]) for key, values in pictures.items()}

    @property
    def lengths(self) -> Int[ndarray, " episode"]:
        """Frames of each episode."""
        return np.array([len(episode) for episode in self._episodes], dtype=np.int64)

    @property
    def fingerprint(self) -> str:
        """Digest of every array and sentence."""
        digest = hashlib.sha256()
        for episode in self._episodes:
            digest.update(episode.instruction.encode())
            for key, values in sorted((*episode.columns.items(), *episode.cameras.items())):
                digest.update(f"{key}:{values.shape}:{values.dtype}".encode())
                digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()[:16]

    def episode(self, index: int) -> EpisodeInfo:
        """Length and sentence of an episode."""
        episode = self._at(index)
        sentences = (episode.instruction,) if episode.instruction else ()
        return EpisodeInfo(index=index, length=len(episode), instructions=sentences)

    def instruction_at(self, index: int, frame: int) -> str:
        """The sentence of the episode."""
        self._check_frames(index, [frame])
        return self._at(index).instruction

    def column(self, index: int, key: str) -> ndarray:
        """A column of an episode."""
        columns = self._at(index).columns
        if key not in columns:
            raise DataError(f"{self.location} has no column {key!r}. Choose one of {sorted(columns)}.")
        values = columns[key]
        if not np.isfinite(values).all():
            raise DataError(f"{self.location}: {key} must be finite, got NaN or infinity in episode {index}. Drop it.")
        return values.copy()

    def images(self, index: int, key: str, indices: Sequence[int]) -> UInt8[Tensor, "image 3 height image_width"]:
        """RGB frames of one camera."""
        pictures = self._at(index).cameras
        if key not in pictures:
            raise DataError(f"{self.location} has no camera {key!r}. Choose one of {sorted(pictures)}.")
        self._check_frames(index, indices)
        return torch.from_numpy(pictures[key][list(indices)]).permute(0, 3, 1, 2).contiguous()

    def _at(self, index: int) -> MemoryEpisode:
        if not 0 <= index < len(self._episodes):
            raise DataError(
                f"episode must lie in [0, {len(self._episodes)}) of {self.location}, got {index}. Choose one there."
            )
        return self._episodes[index]

    def _check_frames(self, index: int, frames: Sequence[int]) -> None:
        length = len(self._at(index))
        outside = [frame for frame in frames if not 0 <= frame < length]
        if outside:
            raise DataError(
                f"frame must lie in [0, {length}) in episode {index} of {self.location}, got {outside}. Choose others."
            )
