"""Statistics of what robots did and of the states they were in, over every frame of one data set or of several."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from vla_kit.actions import QuantileStats
from vla_kit.data.episodes import EpisodeReader
from vla_kit.data.jobs import Executor, SerialExecutor, episode_blocks
from vla_kit.data.jobs._progress import with_progress
from vla_kit.data.partly_known import PartlyKnown, known_of
from vla_kit.data.statistics.cache import StatisticsCache
from vla_kit.data.statistics.feature import EXACT_BYTES, FeatureStatistics
from vla_kit.data.statistics.partial import PartialStatistics
from vla_kit.errors import DataError, SettingError

__all__ = ["ActionPart", "action_statistics", "merged_action_statistics", "merged_state_statistics"]

_Numbers = Literal["actions", "states"]

_BLOCK_FRAMES: Final = 100_000


@dataclass(frozen=True, kw_only=True)
class ActionPart:
    """A data set that takes part in merged statistics, opened when its turn comes and then let go.

    Args:
        open: Opens the reader; best without views. It must survive pickling where an executor uses processes.
        episodes: The episodes to count: their numbers, or a function of the opened reader; all where None.
        horizon: Steps per chunk; read only where actions depend on the frame at which a chunk begins.

    Examples:
        >>> from vla_kit.data.demonstration_set import DemonstrationSet
        >>> dataset = DemonstrationSet(root="data/reach", embodiment="metaworld_sawyer")
        >>> part = ActionPart(open=partial(dataset.open, with_views=False), episodes=dataset.episodes)
    """

    open: Callable[[], EpisodeReader]
    episodes: Sequence[int] | Callable[[EpisodeReader], Sequence[int]] | None = None
    horizon: int | None = None


def action_statistics(
    reader: EpisodeReader,
    *,
    episodes: Sequence[int] | None = None,
    horizon: int | None = None,
    cache: StatisticsCache | None = None,
    executor: Executor | None = None,
    exact_bytes: int = EXACT_BYTES,
) -> QuantileStats:
    """Statistics of the native actions of a data set, from its frames.

    Where actions depend on the frame at which their chunk begins, every step of every chunk counts: a chunk begins at
    each frame that has an action and ends with the episode at the latest. Steps past the end do not count.

    Args:
        reader: The data set; best opened without views.
        episodes: Numbers of the episodes to count; all where None.
        horizon: Steps per chunk, needed where `reader.chunk_relative`, else not read.
        cache: Keeps the result under the fingerprint of the data set, its episodes and the horizon. Nothing is kept
            where None.
        executor: Counts blocks of episodes; one after the other in this process where None.
        exact_bytes: Size of all actions up to which q01 and q99 are exact, see `FeatureStatistics` [byte].

    Returns:
        The statistics, in the order of the robot's channels.

    Raises:
        DataError: If actions cannot be read or are not finite, there are none, or the file of the cache is broken.
        SettingError: If `horizon` is missing or below 1, or an episode does not exist.
        MissingExtraError: If there are more actions than `exact_bytes` and datasketches is not installed.

    Examples:
        >>> from vla_kit.data.action_columns import ActionColumns
        >>> from vla_kit.data.memory_source import MemoryEpisode, MemorySource
        >>> from vla_kit.data.robot_reader import RobotReader
        >>> source = MemorySource([MemoryEpisode(columns={"action": np.arange(101.0)[:, None]})])
        >>> stats = action_statistics(RobotReader(source, embodiment="point"))
        >>> stats.q01, stats.q99, stats.count
        (tensor([1.]), tensor([99.]), 101)

    Source:
        Qwen-VLA, arXiv 2605.30280, equation 5: q01 and q99 per data set and dimension.
    """
    part = ActionPart(open=partial(_given, reader), episodes=episodes, horizon=horizon)
    (stats,) = merged_action_statistics([part], cache=cache, executor=executor, exact_bytes=exact_bytes).values()
    return stats


def merged_action_statistics(
    parts: Sequence[ActionPart],
    *,
    cache: StatisticsCache | None = None,
    executor: Executor | None = None,
    exact_bytes: int = EXACT_BYTES,
) -> dict[str, QuantileStats]:
    """Statistics of the native actions of each robot, over all data sets that it has.

    One data set is open at a time: once to ask for its fingerprint and, where nothing is cached, again to count.

    Args:
        parts: The data sets, of any robots.
        cache: Keeps the results, those of several data sets beside the first. Nothing is kept where None.
        executor: Counts blocks of episodes; one after the other in this process where None.
        exact_bytes: Size of all actions of a robot up to which q01 and q99 are exact [byte].

    Returns:
        Embodiment -> statistics, in the order in which the robots come first.

    Raises:
        DataError: If actions cannot be read or are not finite, a robot has none, its data sets differ in the number
            of channels, or a file of the cache is broken.
        SettingError: If a `horizon` is missing or below 1, or an episode does not exist.
        MissingExtraError: If there are more actions than `exact_bytes` and datasketches is not installed.

    Source:
        Qwen-VLA, arXiv 2605.30280, equation 5, normalises per data set. Here the data sets that share an embodiment
        share one map, because a robot that acts knows its name, not the data set; name them apart to keep them apart.
    """
    return _merged(parts, "actions", cache=cache, executor=executor, exact_bytes=exact_bytes)


def merged_state_statistics(
    parts: Sequence[ActionPart],
    *,
    cache: StatisticsCache | None = None,
    executor: Executor | None = None,
    exact_bytes: int = EXACT_BYTES,
) -> dict[str, QuantileStats]:
    """Statistics of the native states of each robot, over all data sets that it has; see `merged_action_statistics`.

    Every frame that has an action counts, for only those become samples.

    Args:
        parts: The data sets, of any robots, each with `state`; `horizon` is not read.
        cache: Keeps the results. Nothing is kept where None.
        executor: Counts blocks of episodes; one after the other in this process where None.
        exact_bytes: Size of all states of a robot up to which q01 and q99 are exact [byte].

    Returns:
        Embodiment -> statistics, in the order of its state.

    Raises:
        DataError: If states cannot be read or are not finite, a robot has none, its data sets differ in the number
            of channels, or a file of the cache is broken.
        SettingError: If an episode does not exist.
        MissingExtraError: If there are more states than `exact_bytes` and datasketches is not installed.

    Examples:
        >>> from vla_kit.data.action_columns import ActionColumns
        >>> from vla_kit.data.memory_source import MemoryEpisode, MemorySource
        >>> from vla_kit.data.robot_reader import RobotReader
        >>> columns = {"action": np.zeros((101, 1)), "angle": np.arange(101.0)[:, None]}
        >>> reader = RobotReader(
        ...     MemorySource([MemoryEpisode(columns=columns)]), embodiment="arm", state=[ActionColumns("angle")]
        ... )
        >>> merged_state_statistics([ActionPart(open=lambda: reader)])["arm"].q99
        tensor([99.])
    """
    return _merged(parts, "states", cache=cache, executor=executor, exact_bytes=exact_bytes)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Survey:
    """What is known of a part without reading actions."""

    open: Callable[[], EpisodeReader]
    embodiment: str
    location: str
    size: int
    rows: Int[ndarray, " episode"]  # numbers that each episode will count
    episodes: list[int]
    horizon: int | None
    recipe: dict[str, Any]
    partly_known: bool


@dataclass(frozen=True, kw_only=True)
class _Block:
    open: Callable[[], EpisodeReader]
    of: _Numbers
    episodes: list[int]
    horizon: int | None
    size: int
    exact_bytes: int
    partly_known: bool


def _given(reader: EpisodeReader) -> EpisodeReader:
    return reader


def _merged(
    parts: Sequence[ActionPart],
    of: _Numbers,
    *,
    cache: StatisticsCache | None,
    executor: Executor | None,
    exact_bytes: int,
) -> dict[str, QuantileStats]:
    robots: dict[str, list[_Survey]] = {}
    for part in parts:
        survey = _survey(part, of)
        robots.setdefault(survey.embodiment, []).append(survey)
    return {
        name: _of_robot(name, of, surveys, cache=cache, executor=executor or SerialExecutor(), exact_bytes=exact_bytes)
        for name, surveys in robots.items()
    }


def _survey(part: ActionPart, of: _Numbers) -> _Survey:
    reader = part.open()
    relative = reader.chunk_relative and of == "actions"
    horizon = part.horizon if relative else None
    if relative and (horizon is None or horizon < 1):
        raise SettingError(
            f"horizon must be at least 1 where actions depend on the beginning of a chunk, as in {reader.location}, "
            f"got {horizon}. Give the steps of a chunk."
        )
    everything = list(range(reader.num_episodes))
    chosen = part.episodes(reader) if callable(part.episodes) else part.episodes
    episodes = everything if chosen is None else [int(index) for index in chosen]
    outside = [index for index in episodes if not 0 <= index < reader.num_episodes]
    if outside:
        raise SettingError(
            f"episodes must lie in [0, {reader.num_episodes}) of {reader.location}, got {outside[0]}. "
            "Choose them there."
        )
    steps = np.asarray(reader.num_steps, dtype=np.int64)
    full = np.zeros_like(steps) if horizon is None else np.maximum(steps - horizon, 0)  # chunks that are not cut short
    rows = steps if horizon is None else full * horizon + (steps - full) * (steps - full + 1) // 2
    numbers = hashlib.sha256(json.dumps(episodes).encode()).hexdigest()[:16]
    return _Survey(
        open=part.open,
        embodiment=reader.embodiment,
        location=reader.location,
        size=reader.action_size if of == "actions" else reader.state_size,
        rows=rows,
        episodes=episodes,
        horizon=horizon,
        recipe={
            "fingerprint": reader.fingerprint,
            "episodes": "all" if episodes == everything else numbers,
            "horizon": horizon,
        },
        partly_known=of == "actions" and isinstance(reader, PartlyKnown) and reader.partly_known,
    )


def _of_robot(
    name: str,
    of: _Numbers,
    surveys: Sequence[_Survey],
    *,
    cache: StatisticsCache | None,
    executor: Executor,
    exact_bytes: int,
) -> QuantileStats:
    first = surveys[0]
    other = next((survey for survey in surveys if survey.size != first.size), None)
    if other is not None:
        raise DataError(
            f"data sets of {name!r} must have one number of {of.removesuffix('s')} channels, got {first.size} in "
            f"{first.location} and {other.size} in {other.location}. Choose channels, or name the robots apart."
        )
    if not first.size:
        raise DataError(f"{first.location} must hold {of} of {name!r}, got none. Name the columns with state.")
    total = sum(int(survey.rows[survey.episodes].sum()) for survey in surveys)
    if not total:
        raise DataError(f"{first.location} must hold {of} of {name!r}, got no frame with one. Choose other episodes.")
    recipe = {"of": of, "parts": [survey.recipe for survey in surveys], "exact_bytes": exact_bytes}
    known = None if cache is None else cache.load(recipe, QuantileStats.from_dict, location=first.location)
    if known is not None:
        return known
    fits = 4 * total * first.size <= exact_bytes
    partly_known = any(survey.partly_known for survey in surveys)
    blocks = [
        _Block(
            open=survey.open,
            of=of,
            episodes=episodes,
            horizon=survey.horizon,
            size=survey.size,
            exact_bytes=exact_bytes if fits else 0,
            partly_known=partly_known,
        )
        for survey in surveys
        for episodes in episode_blocks(survey.rows, _BLOCK_FRAMES, episodes=survey.episodes)
    ]
    whole: Any = (PartialStatistics if partly_known else FeatureStatistics)(first.size, exact_bytes=exact_bytes)
    for counted in with_progress(executor.map(_count, blocks), total=len(blocks), text=f"statistics of {name}: {of}"):
        whole.merge(counted)
    stats: QuantileStats = whole.summary()
    if cache is not None:
        cache.store(recipe, stats.to_dict(), location=first.location)
    return stats


def _count(block: _Block) -> FeatureStatistics | PartialStatistics:
    reader = block.open()
    rows: list[ndarray] = []
    known: list[ndarray] = []
    for index in block.episodes:
        steps = int(reader.num_steps[index])
        if block.of == "states":
            rows += [reader.states(index, 0, steps).numpy()] if steps else []
            continue
        chunks = [(0, steps)] if block.horizon is None else [(start, block.horizon) for start in range(steps)]
        for start, horizon in chunks if steps else ():
            rows.append(reader.chunk(index, start, horizon).numpy())
            if block.partly_known:
                of_chunk = known_of(reader, index, start, horizon)
                known.append(np.ones(rows[-1].shape, dtype=bool) if of_chunk is None else of_chunk.numpy())
    frames = np.concatenate([np.empty((0, block.size), dtype=np.float32), *rows])
    if block.partly_known:
        partly = PartialStatistics(block.size, exact_bytes=block.exact_bytes)
        partly.add(frames, np.concatenate([np.empty((0, block.size), dtype=bool), *known]))
        return partly
    counted = FeatureStatistics(block.size, exact_bytes=block.exact_bytes)
    counted.add(frames)
    return counted
