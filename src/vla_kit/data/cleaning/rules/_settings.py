"""Refuse settings of rules that can be nobody's wish, before anything is measured."""

import math
from collections.abc import Sequence

from vla_kit.errors import SettingError

__all__ = ["check_channels", "check_channels_exist", "check_count", "check_reference", "check_threshold"]


def check_threshold(threshold: float, *, most: float = math.inf) -> None:
    """Refuse a threshold that is no number of at least 0: with NaN or infinity a rule would drop nothing.

    Args:
        threshold: The last value that stays.
        most: Largest value that the rule can measure.

    Raises:
        SettingError: If it is one.

    Examples:
        >>> check_threshold(0.5, most=1)
        >>> check_threshold(float("nan"))
        Traceback (most recent call last):
        ...
        vla_kit.errors.SettingError: threshold must be finite and at least 0, got nan. ...
    """
    if math.isfinite(threshold) and 0 <= threshold <= most:
        return
    rule = "be finite and at least 0" if math.isinf(most) else f"lie in [0, {most:g}]"
    raise SettingError(f"threshold must {rule}, got {threshold}. Leave the rule out to drop nothing.")


def check_count(name: str, count: int, *, least: int = 1) -> None:
    """Refuse a number of frames or episodes that is too small to look at.

    Args:
        name: Name of the argument.
        count: The number.
        least: Smallest that makes sense.

    Raises:
        SettingError: If it is smaller.
    """
    if count < least:
        raise SettingError(f"{name} must be at least {least}, got {count}. Leave it out for the default.")


def check_channels(channels: Sequence[int] | None) -> None:
    """Refuse an empty list of channels, and channels that count from the end.

    Args:
        channels: Channels of the actions; found by the rule where None.

    Raises:
        SettingError: If there is none, or one is negative.
    """
    if channels is not None and (not channels or min(channels) < 0):
        raise SettingError(
            f"channels must be one or more numbers of at least 0, got {list(channels)}. Leave it out to find them."
        )


def check_channels_exist(channels: Sequence[int], size: int) -> None:
    """Refuse channels beyond those that the data set has.

    Args:
        channels: Channels, from 0.
        size: How many there are.

    Raises:
        SettingError: If one lies beyond; the run ends at the first episode.
    """
    if outside := [channel for channel in channels if channel >= size]:
        raise SettingError(f"channels must lie in [0, {size}), got {outside[0]}. Count the channels from 0.")


def check_reference(reference: str) -> None:
    """Refuse an unknown meaning of the actions.

    Args:
        reference: Meaning.

    Raises:
        SettingError: If it is none of the three.
    """
    if reference not in ("auto", "absolute", "delta"):
        raise SettingError(f"reference must be 'auto', 'absolute' or 'delta', got {reference!r}. Use 'auto'.")
