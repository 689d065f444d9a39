"""Episodes of human hands in files of any format, as columns that a robot's reader understands."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Int, UInt8
from numpy import ndarray
from torch import Tensor

from vla_kit.actions import HAND_SIDES, EigengraspBasis
from vla_kit.data._name import check_name
from vla_kit.data._rate import check_rate
from vla_kit.data._suggestion import suggestion
from vla_kit.data.episodes import EpisodeInfo
from vla_kit.data.readers._shared_cache import ARRAYS, DECODERS, new_owner
from vla_kit.data.readers.hand_tracks import HandRecord
from vla_kit.data.source import CameraInfo, ColumnInfo
from vla_kit.data.video import VideoDecoder, open_video
from vla_kit.errors import DataError, SettingError

__all__ = ["EGO", "HandEpisode", "HandSource"]

EGO: Final = "ego"
"""Key of the camera, where there are videos."""

_DIGESTED: Final = 16  # files whose bytes enter the fingerprint
_POSE: Final = 12  # 3 numbers of a place, 9 of a rotation matrix


@dataclass(frozen=True, slots=True, kw_only=True)
class HandEpisode:
    """Where an episode lies and what its files say about it.

    Args:
        path: File of the poses.
        length: Frames.
        sentences: What was said, with the first frame and the one after the last; in the order in which they are
            joined where several hold.
        video: Video that shows the hands; None where there is none.
        first_frame: Frame of the video at which the episode begins.

    Raises:
        SettingError: If a number is negative.

    Examples:
        >>> HandEpisode(path=Path("a.npz"), length=9, sentences=(("wave", 0, 9),)).video is None
        True
    """

    path: Path
    length: int
    sentences: tuple[tuple[str, int, int], ...] = ()
    video: Path | None = None
    first_frame: int = 0

    def __post_init__(self) -> None:
        for name, value in (("length", self.length), ("first_frame", self.first_frame)):
            if value < 0:
                raise SettingError(f"{name} must be at least 0, got {value} for {self.path}. Count frames from 0.")


class HandSource:
    """Human hands as a recorded data set; satisfies `EpisodeSource`.

    Columns, for `left` and `right` each: `left.wrist` is the wrist in the world, 3 numbers of its place [m] and 9 of
    its rotation matrix, row after row; `left.fingers` the 45 numbers of the finger pose, written as those of a right
    hand [rad]; `left.seen` 1 where the hand was seen, else 0; and, with a basis, `left.grasp` its eigengrasp weights.
    `camera` is the camera in the world, like a wrist, where it is known. The camera key is `ego` where every episode
    has a video. `hand_columns` makes actions of them.

    Args:
        episodes: The episodes in their order.
        load: Reads the hands of the file of an episode. It must survive pickling.
        root: File or folder of the data set, for its name and for messages.
        name: Name of the data set; the name of `root` without its suffix where None.
        rate_hz: Frames per second, where known.
        basis: Basis of the eigengrasp weights; there are no `grasp` columns where None.
        has_camera: Whether `load` gives the camera.

    Raises:
        DataError: If there is no episode.
        SettingError: If `name` is empty or `rate_hz` not above 0.
    """

    def __init__(
        self,
        episodes: Sequence[HandEpisode],
        *,
        load: Callable[[Path], HandRecord],
        root: str | Path,
        name: str | None = None,
        rate_hz: float | None = None,
        basis: EigengraspBasis | None = None,
        has_camera: bool = True,
    ) -> None:
        self._root = Path(root)
        check_name("name", name)
        check_rate(rate_hz)
        if not episodes:
            raise DataError(f"{self._root} must hold at least one episode, got none. Check the path.")
        resolved = self._root.absolute()
        self._name = name if name is not None else (resolved.stem if resolved.is_file() else resolved.name)
        self._rate_hz, self._basis, self._load = rate_hz, basis, load
        self._episodes = list(episodes)
        sizes = {"wrist": _POSE, "fingers": 45, "seen": 1} | ({} if basis is None else {"grasp": basis.count})
        self._sizes = {f"{side}.{part}": size for side in HAND_SIDES for part, size in sizes.items()}
        if has_camera:
            self._sizes["camera"] = _POSE
        ends = np.cumsum(list(self._sizes.values()))
        self._places = {
            key: slice(int(end) - size, int(end)) for (key, size), end in zip(self._sizes.items(), ends, strict=True)
        }
        self._owner = new_owner(self)

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self._name

    @property
    def location(self) -> str:
        """Path of the file or folder."""
        return str(self._root)

    @property
    def rate_hz(self) -> float | None:
        """Frames per second; None where the files do not say."""
        return self._rate_hz

    @property
    def basis(self) -> EigengraspBasis | None:
        """Basis of the eigengrasp weights."""
        return self._basis

    @property
    def columns(self) -> dict[str, ColumnInfo]:
        """Columns of numbers by key."""
        return {key: ColumnInfo(size=size) for key, size in self._sizes.items()}

    @property
    def cameras(self) -> dict[str, CameraInfo]:
        """The camera `ego`, where every episode has a video."""
        return {EGO: CameraInfo(video=True)} if all(one.video is not None for one in self._episodes) else {}

    @property
    def lengths(self) -> Int[ndarray, " episode"]:
        """Frames of each episode."""
        return np.array([episode.length for episode in self._episodes], dtype=np.int64)

    @property
    def fingerprint(self) -> str:
        """Digest of sentences, lengths, the basis, sizes of all files and the bytes of some."""
        digest = hashlib.sha256()
        for episode in self._episodes:
            size = episode.path.stat().st_size
            digest.update(repr((episode.length, episode.sentences, episode.first_frame, size)).encode())
        chosen = np.unique(np.linspace(0, len(self._episodes) - 1, _DIGESTED).astype(int))
        for index in chosen.tolist():
            digest.update(self._episodes[index].path.read_bytes())
        if self._basis is not None:
            for buffer in (self._basis.mean, self._basis.directions):
                digest.update(buffer.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def episode(self, index: int) -> EpisodeInfo:
        """Length and sentences of an episode.

        Raises:
            DataError: If there is no such episode.
        """
        episode = self._at(index)
        first = self.instruction_at(index, 0) if episode.length else ""
        others = [text for text, *_ in episode.sentences if text != first]
        return EpisodeInfo(
            index=index, length=episode.length, instructions=tuple(text for text in (first, *others) if text)
        )

    def instruction_at(self, index: int, frame: int) -> str:
        """The sentences that hold at a frame, joined; empty where none does.

        Raises:
            DataError: If there is no such episode or frame.
        """
        self._check_frames(index, [frame])
        return " ".join(text for text, first, last in self._at(index).sentences if first <= frame < last)

    def column(self, index: int, key: str) -> ndarray:
        """A column of an episode, `[step, size]` in float64.

        Raises:
            DataError: If there is no such column or episode, or its file is broken.
        """
        if key not in self._places:
            remedy = suggestion(key, self._sizes)
            if key.endswith(".grasp"):
                remedy = "Give a basis of eigengrasps: options {basis: eigengrasps.safetensors}; see fit_eigengrasps."
            raise DataError(f"{self.location} has no column {key!r}. {remedy}")
        self._at(index)
        table: ndarray = ARRAYS.get((self._owner, index), partial(self._read, index))
        return table[:, self._places[key]].copy()

    def images(self, index: int, key: str, indices: Sequence[int]) -> UInt8[Tensor, "image 3 height image_width"]:
        """RGB frames of the video of an episode, in the order of `indices`.

        Raises:
            DataError: If there is no such camera, episode or frame, or a frame cannot be decoded.
        """
        episode = self._at(index)
        if key not in self.cameras or episode.video is None:
            raise DataError(f"{self.location} has no camera {key!r}. {suggestion(key, self.cameras)}")
        self._check_frames(index, indices)
        decoder: VideoDecoder = DECODERS.get((self._owner, episode.video), partial(_opened, episode.video))
        return decoder.frames([frame + episode.first_frame for frame in indices])

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_owner"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._owner = new_owner(self)

    def _read(self, index: int) -> tuple[ndarray, float]:
        episode = self._at(index)
        try:
            record = self._load(episode.path)
        except DataError as error:
            raise DataError(f"{episode.path}: {error}") from error
        if len(record.left.seen) != episode.length:
            raise DataError(
                f"{episode.path} must hold {episode.length} frames as when it was opened, got "
                f"{len(record.left.seen)}. Start again."
            )
        table = np.empty((episode.length, self._places[list(self._places)[-1]].stop))
        for side, track in (("left", record.left), ("right", record.right)):
            table[:, self._places[f"{side}.wrist"]] = _flat(track.wrist)
            table[:, self._places[f"{side}.fingers"]] = track.fingers
            table[:, self._places[f"{side}.seen"]] = track.seen[:, None]
            if self._basis is not None:
                weights = self._basis.encode(torch.from_numpy(track.fingers))
                table[:, self._places[f"{side}.grasp"]] = weights.numpy()
        if "camera" in self._places:
            if record.camera is None:
                raise DataError(f"{episode.path} must hold the pose of the camera, as other episodes do. Drop it.")
            table[:, self._places["camera"]] = _flat(record.camera)
        return table, table.nbytes

    def _at(self, index: int) -> HandEpisode:
        if not 0 <= index < len(self._episodes):
            raise DataError(
                f"episode must lie in [0, {len(self._episodes)}) of {self.location}, got {index}. Choose one there."
            )
        return self._episodes[index]

    def _check_frames(self, index: int, frames: Sequence[int]) -> None:
        length = self._at(index).length
        outside = [int(frame) for frame in frames if not 0 <= frame < length]
        if outside:
            raise DataError(
                f"frame must lie in [0, {length}) in episode {index} of {self.location}, got {outside}. Choose others."
            )


def _flat(pose: ndarray) -> ndarray:
    return np.concatenate([pose[:, :3, 3], pose[:, :3, :3].reshape(-1, 9)], axis=1)


def _opened(path: Path) -> tuple[VideoDecoder, float]:
    return open_video(path), 1
