"""Write a data set of any format as a LeRobot v3.0 data set: `write_lerobot`, and the verb `vla-kit data convert`."""

import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy import ndarray
from rich.console import Console

from vla_kit.data._rate import check_rate
from vla_kit.data.feature_keys import FeatureKeys, lerobot_keys
from vla_kit.data.jobs import Executor, SerialExecutor, choose_executor, episode_blocks
from vla_kit.data.jobs._progress import with_progress
from vla_kit.data.lerobot_merge import merge_lerobot
from vla_kit.data.lerobot_stats import pixel_statistics
from vla_kit.data.lerobot_writer import LeRobotWriter, check_new_root, folder_beside
from vla_kit.data.source import EpisodeSource
from vla_kit.errors import DataError, SettingError

__all__ = ["Conversion", "convert", "write_lerobot"]

_BLOCK_FRAMES: Final = (1_000, 20_000)
_NUM_BLOCKS: Final = 16  # of a data set that is small enough


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What was written, and what became of it.

    Args:
        root: Folder of the new data set.
        episodes: Numbers in the source of the new episodes 0, 1, 2, ...
        num_frames: Frames written.
        keys: Feature -> columns and cameras of the source.
        videos: Features that are videos; the other cameras are exact images.
    """

    root: Path
    episodes: tuple[int, ...]
    num_frames: int
    keys: FeatureKeys
    videos: tuple[str, ...]


def write_lerobot(
    source: EpisodeSource,
    out: str | Path,
    *,
    episodes: Sequence[int] | None = None,
    cameras: Literal["video", "image"] = "video",
    rate_hz: float | None = None,
    robot_type: str | None = None,
    keys: Mapping[str, str] | None = None,
    executor: Executor | None = None,
    block_frames: int | None = None,
) -> Conversion:
    """Write a data set of any format as a LeRobot v3.0 data set.

    Numbers keep their values and, where LeRobot has it, their type: float32, float64, int32 and bool stay, float16
    becomes float32, other integers int64. Sentences are kept per frame, seeds per episode. Blocks of episodes are
    written as data sets of their own beside `out`, wherever `executor` runs them, and joined: for a while this takes
    twice the room. At `out` there is a whole data set in the end, or nothing.

    Args:
        source: The data set as it was recorded.
        out: Folder to create. It may exist when empty. On a cluster, every machine must see its parent.
        episodes: Numbers of the episodes to write, in this order; all where None.
        cameras: `video` for h264, which is small and blurs fine colours, see `LeRobotWriter`; `image` for PNG, exact.
            A camera with an odd height or width becomes `image` in any case, since h264 cannot hold it.
        rate_hz: Frames per second, where the source does not know them or knows them wrongly.
        robot_type: Name of the robot, kept in the metadata.
        keys: Column or camera -> LeRobot name, where the rule of `lerobot_keys` is not what you want.
        executor: Runs the blocks; one after the other in this process where None.
        block_frames: Frames of a block; where None a sixteenth of the data set, but 1,000 to 20,000. Each block adds a
            data file and a video file per camera.

    Returns:
        What was written.

    Raises:
        SettingError: If the rate is unknown, `out` holds something, an episode does not exist, or `keys` is wrong.
        DataError: If an episode is broken, which the error's note names, or none is left. Nothing is written then:
            `vla-kit data clean` finds such episodes.

    Warns:
        UserWarning: If an episode without frames was left out, or a camera became `image`.

    Examples:
        >>> import tempfile
        >>> from vla_kit.data.memory_source import MemoryEpisode, MemorySource
        >>> source = MemorySource([MemoryEpisode(columns={"actions": np.eye(2)}, instruction="push")], rate_hz=10)
        >>> folder = tempfile.TemporaryDirectory()
        >>> conversion = write_lerobot(source, f"{folder.name}/set")
        >>> conversion.keys.columns, conversion.episodes
        ({'action': ('actions',)}, (0,))
        >>> folder.cleanup()
    """
    out = Path(out).absolute()
    check_new_root(out)
    check_rate(rate_hz)
    if cameras not in ("video", "image"):
        raise SettingError(f"cameras must be 'video' or 'image', got {cameras!r}. Use 'video'.")
    rate = source.rate_hz if rate_hz is None else rate_hz
    if rate is None:
        raise SettingError(
            f"rate_hz must be given for {source.location}, which does not keep it. Give frames per second."
        )
    chosen = _with_frames(source, episodes)
    named = lerobot_keys(source.columns, source.cameras, keys)
    features = _features(source, named, episode=chosen[0], cameras=cameras)
    total = int(source.lengths[chosen].sum())
    size = block_frames if block_frames is not None else int(np.clip(total // _NUM_BLOCKS, *_BLOCK_FRAMES))
    blocks = list(enumerate(episode_blocks(source.lengths, size, episodes=chosen)))
    folder = folder_beside(out)
    try:
        shard = _Shard(source=source, folder=folder, keys=named, features=features, rate_hz=rate, robot_type=robot_type)
        results = (executor or SerialExecutor()).map(partial(_write_shard, shard=shard), blocks)
        histograms: dict[str, ndarray] = {}
        for counted in with_progress(results, total=len(blocks), text=f"converting {source.name}"):
            for key, histogram in counted.items():
                histograms[key] = histograms.get(key, 0) + histogram
        check_new_root(out)
        if len(blocks) == 1:
            os.replace(shard.root(0), out)
        else:
            pixels = {key: pixel_statistics(counts, count=total) for key, counts in histograms.items()}
            merge_lerobot([shard.root(number) for number, _ in blocks], out, statistics=pixels)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    videos = tuple(key for key, feature in features.items() if feature["dtype"] == "video")
    return Conversion(root=out, episodes=tuple(chosen), num_frames=total, keys=named, videos=videos)


def convert(
    source: str,
    out: str,
    cameras: Literal["video", "image"] = "video",
    rate_hz: float | None = None,
    robot_type: str | None = None,
    decisions: str | None = None,
    keys: dict[str, str] | None = None,
    workers: int = 1,
    ray: str | None = None,
) -> None:
    """Write a data set of any format as a LeRobot v3.0 data set, which lerobot 0.4 opens.

    Args:
        source: Folder, file or hub id of the data set.
        out: Folder to create. It holds a whole data set in the end, or nothing.
        cameras: `video` for h264, small; `image` for PNG, exact.
        rate_hz: Frames per second, where the data set does not know them or knows them wrongly.
        robot_type: Name of the robot, kept in the metadata.
        decisions: File of `vla-kit data clean`, whose dropped episodes are left out.
        keys: Column or camera -> LeRobot name, such as `{observations/qpos: observation.state}`; the empty string
            leaves one out, columns of one name are put side by side.
        workers: Processes.
        ray: Address of a Ray cluster to run on, `local` to start one here; none where None.

    Raises:
        DataError: If the data set is missing or broken, or the decisions are of another one.
        SettingError: If the rate is unknown, `out` holds something, or `keys` is wrong.
    """
    from vla_kit.data.readers.open import open_source

    opened = open_source(source)
    episodes = None if decisions is None else _undropped(opened, decisions)
    with choose_executor(workers=workers, ray=ray) as executor:
        done = write_lerobot(
            opened,
            out,
            episodes=episodes,
            cameras=cameras,
            rate_hz=rate_hz,
            robot_type=robot_type,
            keys=keys,
            executor=executor,
        )
    _print(opened, done)


@dataclass(frozen=True, kw_only=True)
class _Shard:
    """What the blocks of one conversion have in common."""

    source: EpisodeSource
    folder: Path
    keys: FeatureKeys
    features: dict[str, dict[str, Any]]
    rate_hz: float
    robot_type: str | None

    def root(self, number: int) -> Path:
        return self.folder / f"{number:06d}"


class _Pictures:
    """The pictures of one camera in one episode, decoded when sliced: what `LeRobotWriter` takes for an array."""

    dtype: Final = np.dtype(np.uint8)

    def __init__(self, source: EpisodeSource, episode: int, key: str, size: tuple[int, int]) -> None:
        self._source, self._episode, self._key = source, episode, key
        self.shape = (int(source.lengths[episode]), *size, 3)

    def __getitem__(self, part: slice) -> ndarray:
        images = self._source.images(self._episode, self._key, range(*part.indices(self.shape[0])))
        if tuple(images.shape[2:]) != self.shape[1:3]:
            raise DataError(
                f"{self._source.location}: {self._key} must have one image size {self.shape[1:3]}, got "
                f"{tuple(images.shape[2:])} in episode {self._episode}. Leave that episode or that camera out."
            )
        pixels: ndarray = images.permute(0, 2, 3, 1).numpy()
        return pixels


def _write_shard(block: tuple[int, list[int]], *, shard: _Shard) -> dict[str, ndarray]:
    """Write a block of episodes as a data set; returns the histograms of its pixels."""
    number, episodes = block
    root, source = shard.root(number), shard.source
    shutil.rmtree(root, ignore_errors=True)  # a cluster may run a block again
    with LeRobotWriter(root, rate_hz=shard.rate_hz, features=shard.features, robot_type=shard.robot_type) as writer:
        for episode in episodes:
            try:
                _add(writer, shard, episode)
            except Exception as error:
                error.add_note(f"in episode {episode} of {source.location}")
                raise
        return writer.pixel_histograms


def _add(writer: LeRobotWriter, shard: _Shard, episode: int) -> None:
    source = shard.source
    numbers: dict[str, ndarray] = {}
    for name, keys in shard.keys.columns.items():
        values = np.concatenate([source.column(episode, key) for key in keys], axis=1)
        dtype = np.dtype(shard.features[name]["dtype"])
        if not np.can_cast(values.dtype, dtype, "safe"):
            raise DataError(
                f"{source.location}: {', '.join(keys)} must fit {dtype}, as elsewhere, got {values.dtype} in "
                f"episode {episode}. Leave the episode or the column out."
            )
        numbers[name] = values
    pictures: dict[str, Any] = {}
    for name, key in shard.keys.cameras.items():
        height, width, _ = shard.features[name]["shape"]
        pictures[name] = _Pictures(source, episode, key, (height, width))
    writer.add_episode(
        numbers.pop("action"),
        pictures,
        instruction=[source.instruction_at(episode, frame) for frame in range(int(source.lengths[episode]))],
        columns=numbers,
        seed=source.episode(episode).seed,
    )


def _with_frames(source: EpisodeSource, episodes: Sequence[int] | None) -> list[int]:
    lengths = source.lengths
    chosen = list(range(len(lengths))) if episodes is None else [int(index) for index in episodes]
    outside = [index for index in chosen if not 0 <= index < len(lengths)]
    if outside:
        raise SettingError(
            f"episodes must lie in [0, {len(lengths)}) of {source.location}, got {outside[0]}. Choose them there."
        )
    empty = [index for index in chosen if lengths[index] < 1]
    if empty:
        warnings.warn(f"{source.location}: left out {len(empty)} episodes without frames: {empty[:8]}", stacklevel=3)
    kept = [index for index in chosen if lengths[index] >= 1]
    if not kept:
        raise DataError(f"{source.location} must keep at least one episode with frames, got none. Choose others.")
    return kept


def _features(
    source: EpisodeSource, keys: FeatureKeys, *, episode: int, cameras: Literal["video", "image"]
) -> dict[str, dict[str, Any]]:
    """Describe features as the data of one episode are, not as metadata claim."""
    features: dict[str, dict[str, Any]] = {}
    for name, columns in keys.columns.items():
        kinds = [source.column(episode, key).dtype for key in columns]
        size = sum(source.columns[key].size for key in columns)
        features[name] = {"dtype": _dtype(np.result_type(*kinds)), "shape": (size,), "names": _names(source, columns)}
    odd = []
    for name, key in keys.cameras.items():
        height, width = source.images(episode, key, [0]).shape[2:]
        kind = cameras
        if kind == "video" and (height % 2 or width % 2):
            odd.append(f"{key} ({height}, {width})")
            kind = "image"
        features[name] = {"dtype": kind, "shape": (int(height), int(width), 3), "names": None}
    if odd:
        warnings.warn(
            f"{source.location}: a video needs an even height and width; written as images: {', '.join(odd)}",
            stacklevel=3,
        )
    return features


def _dtype(kind: np.dtype[Any]) -> str:
    if kind.kind == "f":
        return "float32" if kind.itemsize <= 4 else "float64"
    return str(kind) if kind in (np.dtype(np.bool_), np.dtype(np.int32)) else "int64"


def _names(source: EpisodeSource, columns: tuple[str, ...]) -> list[str] | None:
    known = [source.columns[key].names for key in columns]
    if len(columns) == 1:
        return None if known[0] is None else list(known[0])
    names: list[str] = []
    for key, given in zip(columns, known, strict=True):
        names += given or [f"{key.rsplit('/', 1)[-1]}_{place}" for place in range(source.columns[key].size)]
    return names


def _undropped(source: EpisodeSource, path: str) -> list[int]:
    from vla_kit.data.cleaning.decisions import Decisions  # a conversion without decisions needs no cleaning

    decisions = Decisions.read(path)
    decisions.check(source)
    return [index for index in range(len(source.lengths)) if index not in decisions.dropped]


def _print(source: EpisodeSource, done: Conversion) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"Wrote {len(done.episodes)} of {len(source.lengths)} episodes, {done.num_frames} frames, to {done.root}",
        markup=False,
    )
    for name, columns in done.keys.columns.items():
        console.print(f"  {name} <- {' + '.join(columns)}", markup=False)
    for name, camera in done.keys.cameras.items():
        console.print(f"  {name} <- {camera} ({'video' if name in done.videos else 'image'})", markup=False)
    if done.keys.left_out:
        console.print(
            f"  left out (counters and sentences are written anew): {', '.join(done.keys.left_out)}", markup=False
        )
