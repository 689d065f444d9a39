"""Statistics of numbers that arrive in parts: parts merge, and the whole need not fit in memory."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Num
from numpy import ndarray

from vla_kit.actions import QuantileStats
from vla_kit.errors import SettingError, ShapeError, StatisticsError

if TYPE_CHECKING:
    from vla_kit.data.statistics.sketch import QuantileSketch

__all__ = ["EXACT_BYTES", "RANK_ERROR", "FeatureStatistics"]

EXACT_BYTES: Final = 2**28
"""Up to this size the frames of one feature are kept, and its quantiles are exact: 1.5 million of 44 float32."""

RANK_ERROR: Final = 1e-4
"""Largest rank error of q01 and q99 beyond: q01 lies between the true 0.99 % and 1.01 % quantiles. Measured, tested."""

_SHARES: Final = (0.01, 0.99)


class FeatureStatistics:
    """Count, minimum, maximum, mean, standard deviation, q01 and q99 of each channel, from frames given in parts.

    While the frames take no more than `exact_bytes` they are kept, and the result is that of `numpy` on all of them,
    bit for bit, however they were cut. Beyond, q01 and q99 are estimates of `QuantileSketch` with a rank error below
    `RANK_ERROR`; the rest stays exact up to rounding. Equal parts in equal order give equal bits in either case.

    It survives pickling, so that parts may be counted in other processes.

    Args:
        size: Channels.
        exact_bytes: Keep frames up to this size [byte]; float32 is kept as such, anything else as float64.

    Raises:
        SettingError: If `size` is below 1 or `exact_bytes` is negative.

    Examples:
        >>> one, other = FeatureStatistics(1), FeatureStatistics(1)
        >>> one.add(np.arange(0.0, 51.0)[:, None])
        >>> other.add(np.arange(51.0, 101.0)[:, None])
        >>> one.merge(other)
        >>> stats = one.summary()
        >>> stats.count, stats.q01.item(), stats.q99.item(), one.exact
        (101, 1.0, 99.0, True)

    Source:
        Moments of parts are merged as by Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for
        computing sample variances, 1979.
    """

    def __init__(self, size: int, *, exact_bytes: int = EXACT_BYTES) -> None:
        if size < 1:
            raise SettingError(f"size must be at least 1, got {size}. Give the channels of the feature.")
        if exact_bytes < 0:
            raise SettingError(f"exact_bytes must be at least 0, got {exact_bytes}. Use 0 to keep no frames.")
        self._size, self._exact_bytes = size, exact_bytes
        self._kept: list[ndarray] = []
        self._kept_bytes = 0
        self._moments = _Moments.none(size)
        self._sketch: QuantileSketch | None = None

    @property
    def size(self) -> int:
        """Channels."""
        return self._size

    @property
    def count(self) -> int:
        """Frames counted so far."""
        return self._moments.count

    @property
    def exact(self) -> bool:
        """Whether q01 and q99 are exact so far."""
        return self._sketch is None

    @property
    def binary(self) -> tuple[int, ...]:
        """Channels of which just two different values were seen, as of a gripper that opens and closes."""
        moments = self._moments
        return tuple(np.flatnonzero(moments.only_extremes & (moments.minimum < moments.maximum)).tolist())

    def add(self, frames: Num[ndarray, "frame size"]) -> None:
        """Count frames.

        Args:
            frames: One row per frame; may be empty.

        Raises:
            ShapeError: If the number of channels differs.
            StatisticsError: If a number is NaN or infinite.
        """
        if frames.ndim != 2 or frames.shape[1] != self._size:
            raise ShapeError(
                f"frames must have the shape (frame, {self._size}), got {frames.shape}. Give all channels."
            )
        broken = np.flatnonzero(~np.isfinite(frames).all(axis=0)).tolist()
        if broken:
            raise StatisticsError(
                f"frames must be finite, got NaN or infinity in channels {broken}. Drop the broken frames first."
            )
        if not len(frames):
            return
        kept = np.array(frames, dtype=np.float32 if frames.dtype == np.float32 else np.float64)
        self._moments = self._moments.merged(_Moments.of(kept.astype(np.float64)))
        self._keep([kept])

    def merge(self, other: "FeatureStatistics") -> None:
        """Count what another has counted, as if its frames came after these; it stays as it is.

        Raises:
            ShapeError: If the number of channels differs.
        """
        if other.size != self._size:
            raise ShapeError(f"other must have {self._size} channels, got {other.size}. Merge like with like.")
        self._moments = self._moments.merged(other._moments)
        if other._sketch is None:
            self._keep(other._kept)
        else:
            self._spill().merge(other._sketch)

    def summary(self) -> QuantileStats:
        """The statistics of all frames counted so far.

        Raises:
            StatisticsError: If there were none.
        """
        if not self.count:
            raise StatisticsError("statistics must be of at least one frame, got none. Add frames first.")
        moments = self._moments
        minimum, maximum = moments.minimum, moments.maximum
        mean, std = moments.mean, np.sqrt(moments.squares / moments.count)
        if self._sketch is None:
            mean, std, low, high = self._of_kept()
        else:
            low, high = np.clip(self._sketch.quantiles(_SHARES), minimum, maximum)
        return QuantileStats(
            q01=torch.from_numpy(low),
            q99=torch.from_numpy(np.maximum(low, high)),
            minimum=torch.from_numpy(minimum),
            maximum=torch.from_numpy(maximum),
            mean=torch.from_numpy(mean),
            std=torch.from_numpy(std),
            count=self.count,
        )

    def _keep(self, parts: list[ndarray]) -> None:
        self._kept_bytes += sum(part.nbytes for part in parts)
        if self._sketch is None and self._kept_bytes <= self._exact_bytes:
            self._kept += parts
            return
        sketch = self._spill()
        for part in parts:
            sketch.add(part)

    def _spill(self) -> "QuantileSketch":
        """Go over from frames to a sketch of them."""
        if self._sketch is None:
            from vla_kit.data.statistics.sketch import QuantileSketch  # an extra, which small data sets never need

            self._sketch = QuantileSketch(self._size)
            for part in self._kept:
                self._sketch.add(part)
            self._kept = []
        return self._sketch

    def _of_kept(self) -> tuple[ndarray, ndarray, ndarray, ndarray]:
        values = np.empty((4, self._size))
        for channel in range(self._size):  # one at a time: all in float64 would take thrice the memory
            column = np.concatenate([part[:, channel] for part in self._kept]).astype(np.float64)
            values[:, channel] = (column.mean(), column.std(), *np.quantile(column, _SHARES, method="linear"))
        mean, std, low, high = values
        return mean, std, low, high


@dataclass(frozen=True, eq=False)
class _Moments:
    count: int
    minimum: Float[ndarray, " size"]
    maximum: Float[ndarray, " size"]
    mean: Float[ndarray, " size"]
    squares: Float[ndarray, " size"]  # sum of squared differences from the mean
    only_extremes: Bool[ndarray, " size"]  # whether every value is the minimum or the maximum

    @classmethod
    def none(cls, size: int) -> "_Moments":
        nothing = np.full(size, np.inf)
        return cls(0, nothing, -nothing, np.zeros(size), np.zeros(size), np.ones(size, dtype=bool))

    @classmethod
    def of(cls, frames: Float[ndarray, "frame size"]) -> "_Moments":
        minimum, maximum, mean = frames.min(axis=0), frames.max(axis=0), frames.mean(axis=0)
        only_extremes = ((frames == minimum) | (frames == maximum)).all(axis=0)
        return cls(len(frames), minimum, maximum, mean, ((frames - mean) ** 2).sum(axis=0), only_extremes)

    def merged(self, other: "_Moments") -> "_Moments":
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        apart = other.mean - self.mean
        minimum, maximum = np.minimum(self.minimum, other.minimum), np.maximum(self.maximum, other.maximum)
        only_extremes = self.only_extremes & other.only_extremes
        for value in (self.minimum, self.maximum, other.minimum, other.maximum):
            only_extremes = only_extremes & ((value == minimum) | (value == maximum))
        return _Moments(
            count,
            minimum,
            maximum,
            self.mean + apart * (other.count / count),
            self.squares + other.squares + apart**2 * (self.count * other.count / count),
            only_extremes,
        )
