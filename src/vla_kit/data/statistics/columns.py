"""Statistics of the columns of a data set, whatever they mean for a robot."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from vla_kit.actions import QuantileStats
from vla_kit.data.jobs import Executor, SerialExecutor, episode_blocks
from vla_kit.data.jobs._progress import with_progress
from vla_kit.data.source import EpisodeSource
from vla_kit.data.statistics.cache import StatisticsCache
from vla_kit.data.statistics.feature import EXACT_BYTES, FeatureStatistics
from vla_kit.errors import DataError, SettingError

__all__ = ["ColumnSummary", "source_statistics", "summarize_columns"]

_BLOCK_FRAMES: Final = 20_000


@dataclass(frozen=True, kw_only=True, eq=False)
class ColumnSummary:
    """What is known of a column after every frame was seen.

    Args:
        stats: Its statistics.
        binary: Channels with just two values, which a gripper that opens and closes has. Scaling one by quantiles is
            mostly a mistake.
        exact: Whether q01 and q99 are exact; else their rank error is below `RANK_ERROR`.

    Examples:
        >>> stats = QuantileStats.from_frames(np.array([[0.0], [1.0]]))
        >>> summary = ColumnSummary(stats=stats, binary=(0,), exact=True)
        >>> ColumnSummary.from_dict(summary.to_dict()).binary
        (0,)
    """

    stats: QuantileStats
    binary: tuple[int, ...]
    exact: bool

    @classmethod
    def from_dict(cls, entry: dict[str, Any]) -> "ColumnSummary":
        """Read what `to_dict` wrote."""
        return cls(stats=QuantileStats.from_dict(entry), binary=tuple(entry["binary"]), exact=bool(entry["exact"]))

    def to_dict(self) -> dict[str, Any]:
        """JSON values: those of `QuantileStats`, with `binary` and `exact`."""
        return {**self.stats.to_dict(), "binary": list(self.binary), "exact": self.exact}


def source_statistics(
    source: EpisodeSource,
    *,
    columns: Sequence[str] | None = None,
    episodes: Sequence[int] | None = None,
    cache: StatisticsCache | None = None,
    executor: Executor | None = None,
    exact_bytes: int = EXACT_BYTES,
) -> dict[str, QuantileStats]:
    """Statistics of every column of a data set, from its frames. See `summarize_columns` for more of them.

    Args:
        source: The data set as it was recorded.
        columns: Keys of the columns; all where None.
        episodes: Numbers of the episodes to count; all where None.
        cache: Keeps the result under the fingerprint of the data set. Nothing is kept where None.
        executor: Counts blocks of episodes; one after the other in this process where None.
        exact_bytes: Size of a column up to which its q01 and q99 are exact, see `FeatureStatistics` [byte].

    Returns:
        Key -> statistics.

    Raises:
        DataError: If a column does not exist or is broken, there are no frames, or the file of the cache is broken.
        SettingError: If an episode does not exist.
        MissingExtraError: If a column is larger than `exact_bytes` and datasketches is not installed.

    Examples:
        >>> from vla_kit.data.memory_source import MemoryEpisode, MemorySource
        >>> source = MemorySource([MemoryEpisode(columns={"action": np.arange(101.0)[:, None]})])
        >>> source_statistics(source)["action"].q99
        tensor([99.])
    """
    summaries = summarize_columns(
        source, columns=columns, episodes=episodes, cache=cache, executor=executor, exact_bytes=exact_bytes
    )
    return {key: summary.stats for key, summary in summaries.items()}


def summarize_columns(
    source: EpisodeSource,
    *,
    columns: Sequence[str] | None = None,
    episodes: Sequence[int] | None = None,
    cache: StatisticsCache | None = None,
    executor: Executor | None = None,
    exact_bytes: int = EXACT_BYTES,
) -> dict[str, ColumnSummary]:
    """Statistics of every column of a data set, and which of its channels are binary. Arguments of `source_statistics`.

    Raises:
        DataError: If a column does not exist or is broken, there are no frames, or the file of the cache is broken.
        SettingError: If an episode does not exist.

    Examples:
        >>> from vla_kit.data.memory_source import MemoryEpisode, MemorySource
        >>> source = MemorySource([MemoryEpisode(columns={"gripper": np.array([[0.0], [1.0], [1.0]])})])
        >>> summarize_columns(source)["gripper"].binary
        (0,)
    """
    keys = list(source.columns) if columns is None else list(columns)
    unknown = [key for key in keys if key not in source.columns]
    if unknown:
        raise DataError(f"{source.location} has no column {unknown[0]!r}. Choose of {sorted(source.columns)}.")
    lengths = source.lengths
    chosen = range(len(lengths)) if episodes is None else [int(index) for index in episodes]
    outside = [index for index in chosen if not 0 <= index < len(lengths)]
    if outside:
        raise SettingError(
            f"episodes must lie in [0, {len(lengths)}) of {source.location}, got {outside[0]}. Choose them there."
        )
    kept = [index for index in chosen if lengths[index]]
    if not kept:
        raise DataError(f"{source.location} must hold frames, got none in the chosen episodes. Choose other episodes.")
    recipe = {
        "of": "columns",
        "columns": keys,
        "fingerprint": source.fingerprint,
        "episodes": "all" if episodes is None else hashlib.sha256(json.dumps(chosen).encode()).hexdigest()[:16],
        "exact_bytes": exact_bytes,
    }
    known = None if cache is None else cache.load(recipe, partial(_read, keys), location=source.location)
    if known is not None:
        return known
    total = int(lengths[kept].sum())
    budgets = {key: exact_bytes if 4 * total * source.columns[key].size <= exact_bytes else 0 for key in keys}
    blocks = episode_blocks(lengths, _BLOCK_FRAMES, episodes=kept)
    whole = {key: FeatureStatistics(source.columns[key].size, exact_bytes=exact_bytes) for key in keys}
    results = (executor or SerialExecutor()).map(partial(_count, source=source, budgets=budgets), blocks)
    for counted in with_progress(results, total=len(blocks), text=f"statistics of {source.name}"):
        for key in keys:
            whole[key].merge(counted[key])
    summaries = {
        key: ColumnSummary(stats=column.summary(), binary=column.binary, exact=column.exact)
        for key, column in whole.items()
    }
    if cache is not None:
        cache.store(recipe, {key: entry.to_dict() for key, entry in summaries.items()}, location=source.location)
    return summaries


def _read(keys: Sequence[str], entries: dict[str, Any]) -> dict[str, ColumnSummary]:
    return {key: ColumnSummary.from_dict(entries[key]) for key in keys}


def _count(episodes: Sequence[int], *, source: EpisodeSource, budgets: dict[str, int]) -> dict[str, FeatureStatistics]:
    result = {}
    for key, exact_bytes in budgets.items():
        result[key] = FeatureStatistics(source.columns[key].size, exact_bytes=exact_bytes)
        result[key].add(np.concatenate([source.column(index, key) for index in episodes]))
    return result
