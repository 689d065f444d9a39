"""The check that frames come at a rate that can be."""

import math

from vla_kit.errors import SettingError

__all__ = ["check_rate"]


def check_rate(rate_hz: float | None, argument: str = "rate_hz") -> None:
    """Refuse a rate that is 0, negative, infinite or NaN.

    Args:
        rate_hz: Frames per second; None where nobody knows, which passes.
        argument: What the caller calls it.

    Raises:
        SettingError: If it is none.

    Examples:
        >>> check_rate(float("nan"))
        Traceback (most recent call last):
        ...
        vla_kit.errors.SettingError: rate_hz must be above 0 and finite, got nan. Give frames per second.
    """
    if rate_hz is not None and not 0 < rate_hz < math.inf:
        raise SettingError(f"{argument} must be above 0 and finite, got {rate_hz}. Give frames per second.")
