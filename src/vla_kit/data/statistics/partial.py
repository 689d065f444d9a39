"""Statistics of numbers that are not known in every frame: each channel counts its own frames."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Num
from numpy import ndarray

from vla_kit.actions import QuantileStats
from vla_kit.data.statistics.feature import EXACT_BYTES, FeatureStatistics
from vla_kit.errors import SettingError, ShapeError, StatisticsError

__all__ = ["PartialStatistics"]


class PartialStatistics:
    """`FeatureStatistics` of each channel over the frames in which it is known.

    A channel that is known in no frame, such as those of a hand that nobody sees, has no quantiles; it is given 0 and
    0, with a warning. Nothing is ever learned of it, and a policy answers 0 there.

    Args:
        size: Channels.
        exact_bytes: Keep frames up to this size [byte], all channels together.

    Raises:
        SettingError: If `size` is below 1 or `exact_bytes` is negative.

    Examples:
        >>> counted = PartialStatistics(2)
        >>> frames = np.stack([np.arange(101.0), np.full(101, 7.0)], axis=1)
        >>> known = np.ones((101, 2), dtype=bool)
        >>> known[1:, 1] = False
        >>> counted.add(frames, known)
        >>> counted.summary().q99, counted.summary().count
        (tensor([99.,  7.]), 101)
    """

    def __init__(self, size: int, *, exact_bytes: int = EXACT_BYTES) -> None:
        if size < 1:
            raise SettingError(f"size must be at least 1, got {size}. Give the channels of the feature.")
        self._channels = [FeatureStatistics(1, exact_bytes=exact_bytes // size) for _ in range(size)]

    def add(self, frames: Num[ndarray, "frame size"], known: Bool[ndarray, "frame size"]) -> None:
        """Count frames.

        Args:
            frames: One row per frame; may be empty. What stands in an unknown entry does not matter.
            known: Which entries count.

        Raises:
            ShapeError: If the number of channels or a shape differs.
            StatisticsError: If a known number is NaN or infinite.
        """
        if frames.shape != known.shape or frames.shape[1:] != (len(self._channels),):
            raise ShapeError(
                f"frames and known must have the shape (frame, {len(self._channels)}), got {frames.shape} and "
                f"{known.shape}. Give all channels."
            )
        for channel, counted in enumerate(self._channels):
            counted.add(frames[known[:, channel], channel, None])

    def merge(self, other: "PartialStatistics") -> None:
        """Count what another has counted, as if its frames came after these; it stays as it is."""
        for mine, theirs in zip(self._channels, other._channels, strict=True):
            mine.merge(theirs)

    def summary(self) -> QuantileStats:
        """The statistics of all frames counted so far; `count` is that of the channel known most often.

        Raises:
            StatisticsError: If no channel was ever known.

        Warns:
            UserWarning: If one was never known.
        """
        unknown = [index for index, channel in enumerate(self._channels) if not channel.count]
        if len(unknown) == len(self._channels):
            raise StatisticsError("statistics must be of at least one known number, got none. Look into `seen`.")
        if unknown:
            warnings.warn(
                f"channels {_ranges(unknown)} are known in no frame: nothing is learned of them, and their statistics "
                "are 0. Mirroring may know them, see HandMirror.",
                stacklevel=2,
            )
        zero = torch.zeros(1)
        nothing = QuantileStats(zero, zero, zero, zero, zero, zero, 0)
        parts = [channel.summary() if channel.count else nothing for channel in self._channels]
        names = ("q01", "q99", "minimum", "maximum", "mean", "std")
        return QuantileStats(
            **{name: torch.cat([getattr(part, name) for part in parts]) for name in names},
            count=max(channel.count for channel in self._channels),
        )


def _ranges(indices: Sequence[int]) -> str:
    """`0-15, 20` of rising numbers."""
    runs = np.split(np.array(indices), np.flatnonzero(np.diff(indices) > 1) + 1)
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
