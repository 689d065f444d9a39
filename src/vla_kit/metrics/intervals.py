"""Intervals of success rates and of their differences, good for few trials and for rates of 0 and 1."""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

from vla_kit.errors import SettingError

__all__ = ["RateDifference", "rate_difference", "wilson_interval"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateDifference:
    """Difference of two success rates with its interval.

    Args:
        difference: First rate minus second rate, in [-1, 1].
        low: Lower end of the interval.
        high: Upper end of the interval.

    Examples:
        >>> RateDifference(difference=0.3, low=0.1, high=0.5).excludes_zero
        True
    """

    difference: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """True where the interval lies on one side of 0: the rates differ at this confidence."""
        return self.low > 0 or self.high < 0


def wilson_interval(successes: int, trials: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a success rate, without continuity correction.

    Args:
        successes: Trials that succeeded.
        trials: All trials, at least 1.
        confidence: Share of intervals that cover the true rate, in (0, 1).

    Returns:
        Lower and upper end, in [0, 1].

    Raises:
        SettingError: If `trials` is less than 1, `successes` not in [0, trials] or `confidence` not in (0, 1).

    Examples:
        >>> [round(end, 4) for end in wilson_interval(81, 263)]
        [0.2553, 0.3662]

    Source:
        E. B. Wilson, Journal of the American Statistical Association 22 (1927), 209-212. Qwen-VLA, arXiv 2605.30280,
        reports rates without intervals.
    """
    if trials < 1:
        raise SettingError(f"trials must be at least 1, got {trials}. Run a trial first.")
    if not 0 <= successes <= trials:
        raise SettingError(f"successes must lie in [0, {trials}], got {successes}. Are the two exchanged?")
    if not 0 < confidence < 1:
        raise SettingError(f"confidence must lie in (0, 1), got {confidence}. Use 0.95.")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate = successes / trials
    center = (rate + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z * sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2)) / (1 + z**2 / trials)
    low = 0.0 if successes == 0 else center - half
    high = 1.0 if successes == trials else center + half
    return low, high


def rate_difference(
    first_successes: int, first_trials: int, second_successes: int, second_trials: int, *, confidence: float = 0.95
) -> RateDifference:
    """Difference of two independent success rates with Newcombe's interval from the two Wilson intervals.

    Args:
        first_successes: Successes of the one under test.
        first_trials: Its trials.
        second_successes: Successes of the baseline.
        second_trials: Its trials.
        confidence: Share of intervals that cover the true difference, in (0, 1).

    Returns:
        First rate minus second rate, with its interval.

    Raises:
        SettingError: As `wilson_interval`.

    Examples:
        >>> trained = rate_difference(56, 70, 48, 80)
        >>> round(trained.difference, 4), round(trained.low, 4), round(trained.high, 4), trained.excludes_zero
        (0.2, 0.0524, 0.3339, True)

    Source:
        R. G. Newcombe, Statistics in Medicine 17 (1998), 873-890, method 10; the example is its table II.
    """
    first_low, first_high = wilson_interval(first_successes, first_trials, confidence=confidence)
    second_low, second_high = wilson_interval(second_successes, second_trials, confidence=confidence)
    first, second = first_successes / first_trials, second_successes / second_trials
    difference = first - second
    return RateDifference(
        difference=difference,
        low=difference - sqrt((first - first_low) ** 2 + (second_high - second) ** 2),
        high=difference + sqrt((first_high - first) ** 2 + (second - second_low) ** 2),
    )
