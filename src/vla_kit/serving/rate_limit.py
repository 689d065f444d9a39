"""How often one client may ask."""

import math
import time
from collections.abc import Callable

from vla_kit.errors import SettingError

__all__ = ["RateLimit"]


class RateLimit:
    """Lets so many requests per second pass on average, and as many at once after a pause: a token bucket.

    Args:
        rate_hz: Requests per second, above 0.
        clock: Gives the time [s].

    Raises:
        SettingError: If `rate_hz` is not above 0 and finite.

    Examples:
        >>> limit = RateLimit(rate_hz=2, clock=iter([0.0, 0.0, 0.0, 0.5]).__next__)
        >>> limit.allows(), limit.allows(), limit.allows()
        (True, True, False)
    """

    def __init__(self, *, rate_hz: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not 0 < rate_hz < math.inf:
            raise SettingError(f"rate_hz must be above 0 and finite, got {rate_hz}. Give requests per second.")
        self.rate_hz = rate_hz
        self._most = max(1.0, rate_hz)
        self._left = self._most
        self._clock = clock
        self._last: float | None = None

    def allows(self) -> bool:
        """Whether a request may pass now; counts it where it may."""
        now = self._clock()
        if self._last is not None:
            self._left = min(self._most, self._left + (now - self._last) * self.rate_hz)
        self._last = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
