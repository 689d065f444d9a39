"""True statistics of a LeRobot data set: exact quantiles, of numbers and of pixels."""

from typing import TYPE_CHECKING, Final

import numpy as np
from jaxtyping import Float, Int, UInt8
from numpy import ndarray

from vla_kit.errors import SettingError

if TYPE_CHECKING:
    from vla_kit.data.statistics.sketch import QuantileSketch

__all__ = ["ColumnStatistics", "array_statistics", "pixel_histogram", "pixel_statistics"]

_QUANTILES: Final[dict[str, float]] = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
_EXACT_BYTES: Final = 2**30


def array_statistics(values: Float[ndarray, "step size"]) -> dict[str, ndarray]:
    """Statistics of a column over its steps, under the names of LeRobot.

    LeRobot itself averages the quantiles of its episodes; these are quantiles of all frames given.

    Args:
        values: One row per step.

    Returns:
        `count` (one entry) and `min max mean std q01 q10 q50 q90 q99` (one entry per channel), float64.

    Examples:
        >>> array_statistics(np.array([[0.0], [1.0], [2.0]]))["q10"]
        array([0.2])
    """
    wide = np.asarray(values, dtype=np.float64)
    quantiles = np.quantile(wide, list(_QUANTILES.values()), axis=0, method="linear")
    return {
        "min": wide.min(axis=0),
        "max": wide.max(axis=0),
        "mean": wide.mean(axis=0),
        "std": wide.std(axis=0),
        "count": np.array([len(wide)]),
        **dict(zip(_QUANTILES, quantiles, strict=True)),
    }


class ColumnStatistics:
    """`array_statistics` of a column that arrives in parts and need not fit in memory.

    Up to `exact_bytes` the numbers are kept, and the result is exact. Beyond, quantiles are those of a `QuantileSketch`
    (the rank error of q01 and q99 is below 1e-4), and the rest is exact up to rounding.

    Args:
        exact_bytes: Keep numbers up to this size [byte].

    Raises:
        SettingError: If `exact_bytes` is negative.
        MissingExtraError: From `add`, beyond `exact_bytes`, if datasketches is not installed.

    Examples:
        >>> column = ColumnStatistics()
        >>> column.add(np.array([[0.0], [1.0]]))
        >>> column.add(np.array([[2.0]]))
        >>> column.result()["q10"]
        array([0.2])
    """

    def __init__(self, *, exact_bytes: int = _EXACT_BYTES) -> None:
        if exact_bytes < 0:
            raise SettingError(f"exact_bytes must be at least 0, got {exact_bytes}. Use 0 to keep no numbers.")
        self._exact_bytes = exact_bytes
        self._kept: list[ndarray] = []
        self._num_bytes = self._count = 0
        self._low = self._high = self._mean = self._squares = np.zeros(0)
        self._sketch: QuantileSketch | None = None

    def add(self, values: Float[ndarray, "step size"]) -> None:
        """Count some more steps.

        Args:
            values: One row per step, at least one.
        """
        self._kept.append(values)
        self._num_bytes += values.nbytes
        if self._num_bytes <= self._exact_bytes and self._sketch is None:
            return
        if self._sketch is None:
            from vla_kit.data.statistics.sketch import QuantileSketch  # an extra, which most data sets never need

            self._sketch = QuantileSketch(values.shape[1])
            self._low, self._high = np.full((2, values.shape[1]), [[np.inf], [-np.inf]])
            self._mean = self._squares = np.zeros(values.shape[1])
        for part in self._kept:
            self._spill(self._sketch, part.astype(np.float64))
        self._kept = []

    def result(self) -> dict[str, ndarray]:
        """What `array_statistics` gives for all steps."""
        if self._sketch is None:
            return array_statistics(np.concatenate(self._kept))
        quantiles = np.clip(self._sketch.quantiles(list(_QUANTILES.values())), self._low, self._high)
        return {
            "min": self._low,
            "max": self._high,
            "mean": self._mean,
            "std": np.sqrt(self._squares / self._count),
            "count": np.array([self._count]),
            **dict(zip(_QUANTILES, quantiles, strict=True)),
        }

    def _spill(self, sketch: "QuantileSketch", part: ndarray) -> None:
        sketch.add(part)
        self._low, self._high = np.minimum(self._low, part.min(axis=0)), np.maximum(self._high, part.max(axis=0))
        count, mean = self._count + len(part), part.mean(axis=0)
        shift = mean - self._mean
        self._squares = self._squares + part.var(axis=0) * len(part) + shift**2 * (self._count * len(part) / count)
        self._mean, self._count = self._mean + shift * (len(part) / count), count


def pixel_histogram(frames: UInt8[ndarray, "image height image_width 3"]) -> Int[ndarray, "3 256"]:
    """Count how often each of the 256 values occurs, per colour. Histograms of parts add up to that of the whole.

    Args:
        frames: RGB frames.

    Examples:
        >>> pixel_histogram(np.zeros((2, 1, 1, 3), dtype=np.uint8))[:, 0]
        array([2, 2, 2])
    """
    return np.stack([np.bincount(frames[..., colour].ravel(), minlength=256) for colour in range(3)])


def pixel_statistics(histogram: Int[ndarray, "3 256"], *, count: int) -> dict[str, ndarray]:
    """Statistics of pixels scaled to [0, 1], per colour, under the names and in the shapes of LeRobot.

    Exact: 8 bits have 256 values, so a histogram loses nothing.

    Args:
        histogram: Sum of `pixel_histogram` over the frames.
        count: Frames behind it.

    Returns:
        `count` (one entry) and the others in the shape `(3, 1, 1)`.

    Examples:
        >>> frames = np.array([0, 255], dtype=np.uint8).reshape(2, 1, 1, 1).repeat(3, axis=3)
        >>> pixel_statistics(pixel_histogram(frames), count=2)["q10"].ravel().round(6)
        array([0.1, 0.1, 0.1])
    """
    levels = np.arange(256) / 255.0
    total = histogram.sum(axis=1)
    mean = histogram @ levels / total
    variance = (histogram * (levels - mean[:, None]) ** 2).sum(axis=1) / total
    present = histogram > 0
    values = {
        "min": levels[present.argmax(axis=1)],
        "max": levels[255 - present[:, ::-1].argmax(axis=1)],
        "mean": mean,
        "std": np.sqrt(variance),
        **{name: _histogram_quantile(histogram, levels, share) for name, share in _QUANTILES.items()},
    }
    return {"count": np.array([count]), **{name: value.reshape(3, 1, 1) for name, value in values.items()}}


def _histogram_quantile(histogram: ndarray, levels: ndarray, share: float) -> ndarray:
    result = []
    for counts in histogram:
        upto = counts.cumsum()
        position = share * (upto[-1] - 1)
        lower, upper = np.floor(position), np.ceil(position)
        low, high = (levels[np.searchsorted(upto, rank, side="right")] for rank in (lower, upper))
        result.append(low + (high - low) * (position - lower))
    return np.array(result)
