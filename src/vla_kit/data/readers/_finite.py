"""The check that every number of a column is one."""

import numpy as np
from numpy import ndarray

from vla_kit.errors import DataError

__all__ = ["check_finite"]


def check_finite(values: ndarray, *, where: str) -> None:
    """Refuse NaN and infinity.

    Args:
        values: A column of an episode, `[step, size]`.
        where: Place of the column, for the message.

    Raises:
        DataError: If a number is NaN or infinite.

    Examples:
        >>> check_finite(np.array([[0.0], [float("nan")]]), where="a.hdf5: action")
        Traceback (most recent call last):
        ...
        vla_kit.errors.DataError: a.hdf5: action must be finite, got nan in frame 1, channel 0. Drop the episode.
    """
    if values.dtype.kind != "f":
        return
    broken = np.argwhere(~np.isfinite(values))
    if len(broken):
        frame, channel = (int(place) for place in broken[0])
        raise DataError(
            f"{where} must be finite, got {values[frame, channel]} in frame {frame}, channel {channel}. "
            "Drop the episode."
        )
