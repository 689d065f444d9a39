"""Find published statistics that are not those of the frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from vla_kit.actions import QuantileStats
from vla_kit.data.jobs import Executor, SerialExecutor, episode_blocks
from vla_kit.data.jobs._progress import with_progress
from vla_kit.data.source import EpisodeSource
from vla_kit.errors import DataError

__all__ = ["Mismatch", "compare_published"]

Quantile: TypeAlias = Literal["q01", "q99"]

_SHARES: Final[dict[Quantile, float]] = {"q01": 0.01, "q99": 0.99}
_ROUNDING: Final = 1e-5  # of a channel's range or size: float32 and other formulas of interpolation
_BLOCK_FRAMES: Final = 100_000


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """A published quantile of one column that is not that of the frames.

    Args:
        column: Key of the column.
        quantile: Which quantile.
        channels: The wrong channels.
        published: Their published values.
        computed: Their values by the frames.
        ranks: Share of frames below the published value of each; 0.01 or 0.99 would be right. Empty where the
            published statistics have another number of channels, and cannot be compared.

    Examples:
        >>> print(Mismatch(column="action", quantile="q01", channels=(2,), published=(-3.5,), computed=(-99.5,),
        ...     ranks=(0.043,)))
        published q01 of action is wrong in channels [2], by up to 96 (channel 2: -3.5, which is the 4.3 % quantile,
        in place of -99.5)
    """

    column: str
    quantile: Quantile
    channels: tuple[int, ...]
    published: tuple[float, ...]
    computed: tuple[float, ...]
    ranks: tuple[float, ...]

    def __str__(self) -> str:
        if not self.ranks:
            return (
                f"published {self.quantile} of {self.column} has {len(self.published)} channels in place of "
                f"{len(self.computed)}"
            )
        errors = [abs(theirs - ours) for theirs, ours in zip(self.published, self.computed, strict=True)]
        worst = int(np.argmax(errors))
        return (
            f"published {self.quantile} of {self.column} is wrong in channels {list(self.channels)}, by up to "
            f"{errors[worst]:.6g} (channel {self.channels[worst]}: {self.published[worst]:.6g}, which is the "
            f"{100 * self.ranks[worst]:.3g} % quantile, in place of {self.computed[worst]:.6g})"
        )


def compare_published(
    source: EpisodeSource,
    computed: Mapping[str, QuantileStats],
    *,
    episodes: Sequence[int] | None = None,
    rank_tolerance: float = 0.001,
    executor: Executor | None = None,
) -> list[Mismatch]:
    """Compare the q01 and q99 that a data set publishes with those of its frames.

    LeRobot v3.0 writes averages of its episodes' quantiles, or their extremes, as those of the data set. A value is
    wrong that differs by more than rounding and whose rank among the frames is off by more than `rank_tolerance`; so
    other formulas of interpolation, and sketches, are no mistakes. Frames are only read again where values differ.

    Args:
        source: The data set. Those that publish statistics have `published_statistics`, a mapping of key to statistics.
        computed: Key -> statistics by the frames, as `source_statistics` gives them.
        episodes: The episodes that `computed` counted; all where None.
        rank_tolerance: Allowed error of a rank, in shares of the frames; one frame is always allowed.
        executor: Counts blocks of episodes; one after the other in this process where None.

    Returns:
        One entry per wrong column and quantile; empty where nothing is published, or all of it is right.

    Raises:
        DataError: If a column cannot be read, or what is published is no numbers.

    Examples:
        >>> from vla_kit.data.memory_source import MemoryEpisode, MemorySource
        >>> source = MemorySource([MemoryEpisode(columns={"action": np.arange(101.0)[:, None]})])
        >>> compare_published(source, {})  # memory publishes nothing
        []
    """
    found: list[Mismatch] = []
    suspects: dict[str, dict[Quantile, ndarray]] = {}
    for key, published in _published(source).items():
        for quantile, theirs in published.items():
            if key not in computed:
                continue
            ours = _vector(computed[key], quantile)
            if theirs.shape != ours.shape:
                found.append(_mismatch(key, quantile, np.arange(0), theirs, ours))
            elif _differs(theirs, computed[key], quantile).any():
                suspects.setdefault(key, {})[quantile] = theirs
    if not suspects:
        return found
    lengths = source.lengths
    kept = [index for index in (range(len(lengths)) if episodes is None else episodes) if lengths[index]]
    frames = int(lengths[kept].sum())
    blocks = episode_blocks(lengths, _BLOCK_FRAMES, episodes=kept)
    counts = {
        key: {quantile: np.zeros((2, len(values))) for quantile, values in asked.items()}
        for key, asked in suspects.items()
    }
    results = (executor or SerialExecutor()).map(partial(_count_below, source=source, suspects=suspects), blocks)
    for counted in with_progress(results, total=len(blocks), text=f"published statistics of {source.name}"):
        for key, asked in counts.items():
            for quantile in asked:
                asked[quantile] += counted[key][quantile]
    tolerance = max(rank_tolerance, 1 / frames)
    for key, asked in counts.items():
        for quantile, (below, upto) in asked.items():
            share, theirs = _SHARES[quantile], suspects[key][quantile]
            # A value that repeats covers a stretch of ranks: the nearest of them counts.
            ranks = np.clip(share, below / frames, upto / frames)
            wrong = (np.abs(ranks - share) > tolerance) & _differs(theirs, computed[key], quantile)
            if wrong.any():
                found.append(
                    _mismatch(key, quantile, np.flatnonzero(wrong), theirs, _vector(computed[key], quantile), ranks)
                )
    return found


def _published(source: EpisodeSource) -> dict[str, dict[Quantile, Float[ndarray, " size"]]]:
    """Published quantiles of columns; LeRobot v2.1 and older publish none or hold them in other files."""
    entries: Mapping[str, Mapping[str, Any]] = getattr(source, "published_statistics", None) or {}
    return {
        key: {
            quantile: _numbers(entries[key][quantile], f"{source.location}: published {quantile} of {key}")
            for quantile in _SHARES
            if entries[key].get(quantile) is not None
        }
        for key in source.columns
        if key in entries
    }


def _numbers(values: Any, where: str) -> Float[ndarray, " size"]:  # noqa: ANN401 (JSON)
    try:
        return np.asarray(values, dtype=np.float32).reshape(-1)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} must be numbers, got {values!r:.80}. Correct or delete the file.") from error


def _vector(stats: QuantileStats, quantile: Quantile) -> Float[ndarray, " size"]:
    vector: ndarray = getattr(stats, quantile).numpy()
    return vector


def _differs(theirs: Float[ndarray, " size"], stats: QuantileStats, quantile: Quantile) -> Bool[ndarray, " size"]:
    low, high = _vector(stats, "q01"), _vector(stats, "q99")
    reach = np.maximum(high - low, np.maximum(np.abs(low), np.abs(high)))
    allowed = _ROUNDING * (reach + 0.01 * reach.max())
    within: ndarray = np.abs(theirs - _vector(stats, quantile)) <= allowed  # NaN is not
    return ~within


def _mismatch(
    key: str, quantile: Quantile, channels: ndarray, theirs: ndarray, ours: ndarray, ranks: ndarray | None = None
) -> Mismatch:
    chosen = channels if ranks is not None else slice(None)
    return Mismatch(
        column=key,
        quantile=quantile,
        channels=tuple(channels.tolist()),
        published=tuple(theirs[chosen].tolist()),
        computed=tuple(ours[chosen].tolist()),
        ranks=() if ranks is None else tuple(ranks[chosen].tolist()),
    )


def _count_below(
    episodes: Sequence[int], *, source: EpisodeSource, suspects: Mapping[str, Mapping[Quantile, ndarray]]
) -> dict[str, dict[Quantile, Int[ndarray, "2 size"]]]:
    """How many frames lie below, and how many at most at, each published value."""
    result: dict[str, dict[Quantile, ndarray]] = {}
    for key, asked in suspects.items():
        frames = np.concatenate([source.column(index, key) for index in episodes]).astype(np.float32)
        result[key] = {
            quantile: np.stack([(frames < values).sum(axis=0), (frames <= values).sum(axis=0)])
            for quantile, values in asked.items()
        }
    return result
