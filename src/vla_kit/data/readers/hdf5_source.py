"""Episodes that are groups of HDF5 files, whatever the layout that put them there."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from jaxtyping import Int, UInt8
from numpy import ndarray
from torch import Tensor

from vla_kit.data._name import check_name
from vla_kit.data._rate import check_rate
from vla_kit.data._suggestion import suggestion
from vla_kit.data.episodes import EpisodeInfo
from vla_kit.data.readers._encoded_image import decode_image, encoded_size
from vla_kit.data.readers._finite import check_finite
from vla_kit.data.readers._hdf5_files import HDF5Files
from vla_kit.data.readers._shared_cache import ARRAYS, new_owner
from vla_kit.data.source import CameraInfo, ColumnInfo
from vla_kit.errors import DataError, MissingExtraError, SettingError

try:
    import h5py
except ImportError as error:
    raise MissingExtraError("h5py", extra="hdf5") from error

__all__ = ["HDF5Episode", "HDF5Source"]

_ACTIONS: Final = ("actions", "action")
_LARGEST_ROW: Final = 1024  # more numbers per frame are a depth map or a point cloud
_DIGESTED_EPISODES: Final = 16
_DIGESTED_TAIL: Final = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class HDF5Episode:
    """Where an episode lies and what its layout says about it.

    Args:
        path: File.
        group: Group of the file that is the episode; `/` where the whole file is.
        instruction: What the robot was told; empty where the file does not say.
        rows_upward: Whether images were stored with their bottom row first, as OpenGL gives them.

    Examples:
        >>> HDF5Episode(path=Path("set.hdf5"), group="data/demo_0").instruction
        ''
    """

    path: Path
    group: str
    instruction: str = ""
    rows_upward: bool = False


class HDF5Source:
    """Reads episodes out of HDF5 groups; satisfies `EpisodeSource`.

    Keys are paths inside the episode's group (`actions`, `obs/ee_pos`), found by looking at the first episode of each
    file:

    - A column is a data set of numbers with a row per frame; further axes are flattened. One with more than 1,024
      numbers per frame (depth maps, point clouds), with other rows than the actions or with another width in another
      file is left out.
    - A camera is uint8 `[frame, height, width, 3]`, or one JPEG or PNG per frame: as rows of uint8 padded with zeros,
      as byte strings, or as arrays of varying length.

    Only the frames asked for are read; columns are kept in memory, within what all sets of a process may keep.

    Functions find the episodes of robomimic, LIBERO and ALOHA, see `vla_kit.data.readers.hdf5.open_hdf5`; another
    layout needs a list of its groups and nothing else.

    Args:
        episodes: The episodes in their order.
        root: File or folder of the data set, for its name and for messages.
        name: Name of the data set; the name of `root` without its suffix where None.
        rate_hz: Frames per second, where known.
        channels: Order of the colours in the arrays that the recorder held. Raw images are those arrays. JPEG and PNG
            frames are taken to come from OpenCV, which takes arrays for BGR: where the recorder handed it RGB, any
            other decoder shows red as blue, which is put right here.

    Raises:
        DataError: If there is no episode, or a file or group is missing or broken.
        SettingError: If `channels` is unknown, `name` is empty or `rate_hz` not above 0.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = Path(folder.name, "set.hdf5")
        >>> with h5py.File(path, "w") as file:
        ...     file["take_1/action"] = np.eye(2)
        ...     file["take_1/camera"] = np.zeros((2, 4, 6, 3), dtype=np.uint8)
        >>> source = HDF5Source([HDF5Episode(path=path, group="take_1", instruction="push")], root=path)
        >>> source.name, source.columns, source.images(0, "camera", [1]).shape
        ('set', {'action': ColumnInfo(size=2, names=None)}, torch.Size([1, 3, 4, 6]))
        >>> source.close()
        >>> folder.cleanup()
    """

    def __init__(
        self,
        episodes: Sequence[HDF5Episode],
        *,
        root: str | Path,
        name: str | None = None,
        rate_hz: float | None = None,
        channels: Literal["rgb", "bgr"] = "rgb",
    ) -> None:
        self._root = Path(root)
        check_name("name", name)
        check_rate(rate_hz)
        if channels not in ("rgb", "bgr"):
            raise SettingError(f"channels must be 'rgb' or 'bgr', got {channels!r}. Use 'rgb'.")
        if not episodes:
            raise DataError(f"{self._root} must hold at least one episode, got none. Check the path.")
        resolved = self._root.absolute()
        self._name = name if name is not None else (resolved.stem if resolved.is_file() else resolved.name)
        self._rate_hz, self._channels = rate_hz, channels
        self._episodes = list(episodes)
        self._files = HDF5Files()
        self._left_out: dict[str, str] = {}
        self._columns: dict[str, ColumnInfo] = {}
        self._cameras: dict[str, CameraInfo] = {}
        self._lengths = self._measure()
        self._describe()
        self._fingerprint = ""
        self._owner = new_owner(self)
        self._files.close()

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
    def columns(self) -> dict[str, ColumnInfo]:
        """Columns of numbers by path inside an episode."""
        return dict(self._columns)

    @property
    def cameras(self) -> dict[str, CameraInfo]:
        """Cameras by path inside an episode."""
        return dict(self._cameras)

    @property
    def lengths(self) -> Int[ndarray, " episode"]:
        """Frames of each episode."""
        return self._lengths.copy()

    @property
    def fingerprint(self) -> str:
        """Digest of sentences, lengths, sizes and ends of the files, and the columns of some episodes."""
        if not self._fingerprint:
            self._fingerprint = self._digest()
        return self._fingerprint

    def episode(self, index: int) -> EpisodeInfo:
        """Length and sentence of an episode.

        Raises:
            DataError: If there is no such episode.
        """
        sentence = self._at(index).instruction
        return EpisodeInfo(index=index, length=int(self._lengths[index]), instructions=(sentence,) if sentence else ())

    def instruction_at(self, index: int, frame: int) -> str:
        """The sentence of the episode.

        Raises:
            DataError: If there is no such episode or frame.
        """
        self._check_frames(index, [frame])
        return self._at(index).instruction

    def column(self, index: int, key: str) -> ndarray:
        """A column of an episode, `[step, size]`, as stored.

        Raises:
            DataError: If there is no such column or episode, it is ragged, unreadable, or holds NaN or infinity.
        """
        if key not in self._columns:
            raise DataError(self._unknown("column", key, self._columns))
        values: ndarray = ARRAYS.get((self._owner, index, key), partial(self._read_column, index, key))
        return values.copy()

    def images(self, index: int, key: str, indices: Sequence[int]) -> UInt8[Tensor, "image 3 height image_width"]:
        """RGB frames of one camera of an episode, upright, in the order of `indices`.

        Raises:
            DataError: If there is no such camera, episode or frame, or a frame cannot be decoded.
        """
        if key not in self._cameras:
            raise DataError(self._unknown("camera", key, self._cameras))
        data, where = self._data(index, key)
        self._check_frames(index, indices)
        wanted, places = np.unique(np.asarray(indices, dtype=np.int64), return_inverse=True)
        if data.ndim == 4:
            runs = np.split(wanted, np.flatnonzero(np.diff(wanted) != 1) + 1) if len(wanted) else []
            parts = [_read(data, slice(int(run[0]), int(run[-1]) + 1), where) for run in runs]
            reverse_channels = self._channels == "bgr"
        else:
            parts = [
                decode_image(_to_bytes(_read(data, int(frame), where)), where=f"{where}, frame {frame}")[None]
                for frame in wanted
            ]
            reverse_channels = self._channels == "rgb"
        if not parts:
            camera = self._cameras[key]
            return torch.empty(0, 3, camera.height or 0, camera.width or 0, dtype=torch.uint8)
        if len({part.shape[1:] for part in parts}) > 1:
            raise DataError(f"{where} must hold images of one size, got several. Drop the episode.")
        frames = np.concatenate(parts)
        frames = frames[:, ::-1] if self._at(index).rows_upward else frames
        frames = frames[..., ::-1] if reverse_channels else frames
        return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)[places]))

    def close(self) -> None:
        """Close the files; the next use opens them again."""
        self._files.close()

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_owner"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._owner = new_owner(self)

    def _read_column(self, index: int, key: str) -> tuple[ndarray, float]:
        data, where = self._data(index, key)
        values: ndarray = np.asarray(_read(data, (), where)).reshape(len(data), -1)
        if values.shape[1] != self._columns[key].size:
            raise DataError(
                f"{where} must have {self._columns[key].size} numbers per frame, as elsewhere in the data set, got "
                f"{values.shape[1]}. Drop the episode."
            )
        check_finite(values, where=where)
        return values, values.nbytes

    def _at(self, index: int) -> HDF5Episode:
        if not 0 <= index < len(self._episodes):
            raise DataError(
                f"index must be an episode of {self._root} in [0, {len(self._episodes)}), got {index}. "
                "Choose one there."
            )
        return self._episodes[index]

    def _check_frames(self, index: int, frames: Sequence[int]) -> None:
        self._at(index)
        length = int(self._lengths[index])
        outside = [int(frame) for frame in frames if not 0 <= frame < length]
        if outside:
            raise DataError(
                f"frame must lie in [0, {length}) in episode {index} of {self._root}, got {outside[0]}. "
                "Choose one there."
            )

    def _where(self, index: int, key: str) -> str:
        episode = self._episodes[index]
        path = f"{episode.group.strip('/')}/{key}".strip("/")
        return f"{episode.path}: {path} (episode {index})"

    def _group(self, index: int) -> h5py.Group:
        episode = self._at(index)
        file = self._files.open(episode.path)
        group = file.get(episode.group)
        if not isinstance(group, h5py.Group):
            raise DataError(
                f"{episode.path} must hold the group {episode.group!r}, got {sorted(file)}. Copy or record it again."
            )
        return group

    def _data(self, index: int, key: str) -> tuple[h5py.Dataset, str]:
        """A data set with a row per frame, and its place for messages."""
        group, where = self._group(index), self._where(index, key)
        data = group.get(key)
        if not isinstance(data, h5py.Dataset):
            found = sorted(name for name, _ in _data_sets(group))
            raise DataError(f"{where} must be a data set, but the file has only {found}. Drop the episode.")
        length = int(self._lengths[index])
        if data.ndim == 0 or len(data) != length:
            raise DataError(
                f"{where} must have a row for each of the {length} frames, got the shape {data.shape}. "
                "Drop the episode or cut it to one length."
            )
        if length == 0:
            raise DataError(f"{where} must have at least one frame, got none. Drop the episode.")
        return data, where

    def _unknown(self, kind: str, key: str, choices: Mapping[str, object]) -> str:
        remedy = suggestion(key, choices)
        if key in self._left_out:
            return f"{self._root}: {key} is no {kind}: {self._left_out[key]}. {remedy}"
        return f"{self._root} has no {kind} {key!r}. {remedy}"

    def _measure(self) -> Int[ndarray, " episode"]:
        """Frames of each episode: the rows of its actions or, without actions, of the first data set."""
        first = self._group(0)
        keys = [key for key, data in _data_sets(first) if data.ndim]
        known = [key for key in _ACTIONS if key in keys] + sorted(keys, key=lambda key: (key.count("/"), key))
        if not known:
            raise DataError(
                f"{self._where(0, '')} must hold data sets with a row per frame, got {sorted(first)}. "
                "The file is incomplete or of another layout; copy or record it again."
            )
        lengths = []
        for index in range(len(self._episodes)):
            group = self._group(index)
            data = group.get(known[0])
            if not isinstance(data, h5py.Dataset) or data.ndim == 0:
                raise DataError(
                    f"{self._where(index, known[0])} must be a data set, but the episode has only "
                    f"{sorted(name for name, _ in _data_sets(group))}. Record it again or remove it from the data set."
                )
            lengths.append(len(data))
        if not any(lengths):
            raise DataError(f"{self._root} must hold frames, got {len(lengths)} empty episodes. Record them again.")
        return np.array(lengths, dtype=np.int64)

    def _describe(self) -> None:
        """Find columns and cameras in the first episode of each file that has frames."""
        seen: set[Path] = set()
        for index in np.flatnonzero(self._lengths):
            path = self._episodes[index].path
            if path in seen:
                continue
            for key, data in _data_sets(self._group(int(index))):
                self._describe_one(key, data, length=int(self._lengths[index]), path=path, first=not seen)
            seen.add(path)

    def _describe_one(self, key: str, data: h5py.Dataset, *, length: int, path: Path, first: bool) -> None:
        if key in self._columns and data.ndim:
            size, known = int(np.prod(data.shape[1:])), self._columns[key].size
            if size != known:
                del self._columns[key]
                self._left_out[key] = f"it has {known} numbers per frame in some files and {size} in {path}"
        elif key in self._cameras and data.ndim == 4:
            camera = self._cameras[key]
            if (camera.height, camera.width) != data.shape[1:3]:
                self._cameras[key] = CameraInfo()
        elif first:
            found = _camera(data, length, f"{path}: {key}")
            if found is not None:
                self._cameras[key] = found
                return
            size = int(np.prod(data.shape[1:]))
            if data.ndim == 0 or len(data) != length:
                self._left_out[key] = f"its shape {data.shape} has no row for each of the {length} frames"
            elif data.dtype.kind not in "fiub" or data.ndim > 3 or not 0 < size <= _LARGEST_ROW:
                self._left_out[key] = f"it holds {data.dtype} of the shape {data.shape}"
            else:
                self._columns[key] = ColumnInfo(size=size)

    def _digest(self) -> str:
        digest = hashlib.sha256()
        digest.update(repr([(episode.group, episode.instruction) for episode in self._episodes]).encode())
        digest.update(self._lengths.tobytes())
        for path in dict.fromkeys(episode.path for episode in self._episodes):
            size = path.stat().st_size
            digest.update(f"{path.relative_to(self._root).as_posix() if path != self._root else ''}:{size}".encode())
            with path.open("rb") as file:
                file.seek(max(0, size - _DIGESTED_TAIL))
                digest.update(file.read())
        full = np.flatnonzero(self._lengths)
        for index in full[np.unique(np.linspace(0, len(full) - 1, _DIGESTED_EPISODES).astype(int))]:
            group = self._group(int(index))
            for key in sorted(self._columns):
                data = group.get(key)
                if isinstance(data, h5py.Dataset):
                    digest.update(f"{key}:{data.shape}:{data.dtype}".encode())
                    digest.update(np.asarray(_read(data, (), self._where(int(index), key))).tobytes())
        return digest.hexdigest()[:16]


def _data_sets(group: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    found: list[tuple[str, h5py.Dataset]] = []

    def visit(key: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found.append((key, item))

    group.visititems(visit)
    return iter(found)


def _camera(data: h5py.Dataset, length: int, where: str) -> CameraInfo | None:
    if data.ndim == 0 or len(data) != length:
        return None
    if data.ndim == 4 and data.dtype == np.uint8 and data.shape[3] == 3:
        return CameraInfo(height=data.shape[1], width=data.shape[2])
    rows_of_bytes = data.ndim == 2 and data.dtype == np.uint8
    single_bytes = data.ndim == 1 and (data.dtype.kind == "S" or h5py.check_vlen_dtype(data.dtype) == np.uint8)
    if rows_of_bytes or single_bytes:
        size = encoded_size(_to_bytes(_read(data, 0, where)))
        return None if size is None else CameraInfo(height=size[0], width=size[1])
    return None


def _to_bytes(row: object) -> bytes:
    return row.tobytes() if isinstance(row, np.ndarray) else bytes(row)  # type: ignore[call-overload]  # as h5py gives it


def _read(data: h5py.Dataset, place: object, where: str) -> ndarray:
    try:
        values: ndarray = data[place]
    except OSError as error:
        raise DataError(
            f"{where} must be readable, got: {str(error).splitlines()[0]}. "
            "The file is damaged; copy or record it again."
        ) from error
    return values
