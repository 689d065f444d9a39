"""Refuse a rate or a number of frames at which no video can be seen."""

import math

from vla_kit.errors import SettingError

__all__ = ["check_sampling"]


def check_sampling(*, rate_hz: float, max_frames: int) -> None:
    """Go on where frames of a video can be taken.

    Args:
        rate_hz: Frames per second to take.
        max_frames: Most frames.

    Raises:
        SettingError: If one is out of range.
    """
    if not 0 < rate_hz < math.inf:
        raise SettingError(f"rate_hz must be above 0 and finite, got {rate_hz}. Use 2 as Qwen does.")
    if max_frames < 1:
        raise SettingError(f"max_frames must be at least 1, got {max_frames}. Use 16.")
