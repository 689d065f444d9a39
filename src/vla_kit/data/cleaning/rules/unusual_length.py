"""Drop episodes whose length is unlike that of the others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vla_kit.data.cleaning.examined_episode import ExaminedEpisode
from vla_kit.data.cleaning.rule import Judgement, Limit, Measurement
from vla_kit.errors import SettingError

__all__ = ["UnusualLength"]

_TO_DEVIATION: Final = 1.4826  # median absolute deviation -> standard deviation of a normal distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusualLength:
    """Distance of the length from the median of the data set, in robust standard deviations of its logarithm.

    Lengths spread by factors, hence the logarithm. The deviation is never taken smaller than that with which a factor
    of two lies exactly at the threshold: an episode half or twice as long as the median stays, however alike the
    others are.

    Args:
        threshold: Largest distance that stays [standard deviations].

    Raises:
        SettingError: If `threshold` is not above 0 or not finite.

    Examples:
        >>> lengths = [100.0] * 9 + [199.0, 2000.0]
        >>> rule = UnusualLength()
        >>> values = rule.judge([Measurement(np.array(length)) for length in lengths]).values
        >>> [rule.limit.violated_by(value) for value in values[-2:]]
        [False, True]

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.1 (anomalous lengths; no number given). 3.5 robust deviations: Iglewicz
        and Hoaglin, How to Detect and Handle Outliers, 1993.
    """

    threshold: float = 3.5

    def __post_init__(self) -> None:
        if not 0 < self.threshold < math.inf:
            raise SettingError(f"threshold must be above 0 and finite, got {self.threshold}. Use 3.5.")

    @property
    def name(self) -> str:
        """Key in the decision file."""
        return "unusual_length"

    @property
    def quantity(self) -> str:
        """What is measured."""
        return "distance of log length from the median [robust standard deviations]"

    @property
    def limit(self) -> Limit:
        """Which values drop an episode."""
        return Limit(self.threshold)

    def measure(self, episode: ExaminedEpisode) -> Measurement | None:
        """Frames of the episode."""
        return Measurement(np.array(float(len(episode)))) if len(episode) else None

    def judge(self, measured: Sequence[Measurement | None]) -> Judgement:
        """Distance of each episode from the median."""
        lengths = np.array([float(each.numbers) for each in measured if each is not None])
        if not lengths.size:
            return Judgement((None,) * len(measured))
        median = float(np.median(np.log(lengths)))
        deviation = _TO_DEVIATION * float(np.median(np.abs(np.log(lengths) - median)))
        deviation = max(deviation, math.log(2) / self.threshold)
        values = tuple(
            None if each is None else abs(math.log(float(each.numbers)) - median) / deviation for each in measured
        )
        return Judgement(values, f"Median length: {math.exp(median):.0f} frames.")
