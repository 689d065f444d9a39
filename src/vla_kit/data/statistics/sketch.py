"""Quantiles of more numbers than memory holds: one t-digest of datasketches per channel."""

from collections.abc import Sequence
from copy import copy
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from vla_kit.errors import MissingExtraError, SettingError, ShapeError

try:
    from datasketches import tdigest_double
except ImportError as error:
    raise MissingExtraError("datasketches", extra="stats") from error

__all__ = ["QuantileSketch"]

_COMPRESSION: Final = 10_000  # about 200 kB per channel


class QuantileSketch:
    """Estimates quantiles of a stream, channel by channel, in a size that hardly grows; sketches of parts merge.

    A `datasketches.tdigest_double` with k = 10,000. The rank error at 1 % and 99 % is below `RANK_ERROR` = 1e-4: the
    estimated q01 lies between the true 0.99 % and 1.01 % quantiles. That is measured, not proven: at most 3.1e-5, for
    sixteen distributions like those of robots (joints that wander, displacements near 0, grippers, ticks, constants;
    sorted, periodic and heavy-tailed numbers) of 10^6 frames in 64 merged parts, and for fifteen of 10^7 in 500.

    Libraries compared on eight of them: 10^6 frames in 64 parts, seconds of one core for 44 channels, worst rank error.

    | library | seconds | error | |
    | --- | --- | --- | --- |
    | datasketches 5.2, t-digest, k = 10,000 | 7 | 2e-5 | chosen: the same data give the same bits |
    | datasketches 5.2, KLL, k = 32,768 | 3 | 3e-5 | random without a seed; states 1e-4 at 99 % confidence |
    | datasketches 5.2, REQ, k = 50, two per channel | 4 | 5e-5 | random without a seed; states a standard error |
    | crick 0.0.8, t-digest, 1000 | 10 | 3e-4 | worse where values repeat, as ticks do; no Linux wheels for ARM |
    | ddsketch 3.0, 0.1 % (50,000 frames, scaled) | 27 | 0.99 | error relative to the value: blind far from 0 |

    Equal bits matter: a run that resumes computes statistics again where their file is lost, and a checkpoint refuses
    other statistics than its own. datasketches is an Apache project, needs only numpy, and has wheels for Linux and
    macOS on x86 and ARM and for Windows (Python 3.9 to 3.13 at 5.2, March 2025); it has no type hints. The last crick
    is of December 2024, the last ddsketch of April 2024.

    Args:
        size: Channels.

    Raises:
        MissingExtraError: On import, if datasketches is not installed.
        SettingError: If `size` is below 1.

    Examples:
        >>> one, other = QuantileSketch(1), QuantileSketch(1)
        >>> one.add(np.arange(0.0, 51.0)[:, None])
        >>> other.add(np.arange(51.0, 101.0)[:, None])
        >>> one.merge(other)
        >>> one.quantiles([0.01, 0.99]).round().tolist()
        [[1.0], [99.0]]

    Source:
        Dunning and Ertl, Computing extremely accurate quantiles using t-digests, arXiv 1902.04023.
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise SettingError(f"size must be at least 1, got {size}. Give the channels of the stream.")
        self._digests = [tdigest_double(_COMPRESSION) for _ in range(size)]

    def add(self, frames: Float[ndarray, "frame size"]) -> None:
        """Count frames.

        Args:
            frames: Finite numbers.

        Raises:
            ShapeError: If the number of channels differs.
        """
        if frames.ndim != 2 or frames.shape[1] != len(self._digests):
            raise ShapeError(
                f"frames must have the shape (frame, {len(self._digests)}), got {frames.shape}. Give all channels."
            )
        for digest, column in zip(self._digests, np.ascontiguousarray(frames.T, dtype=np.float64), strict=True):
            digest.update(column)

    def merge(self, other: "QuantileSketch") -> None:
        """Count what another sketch has counted; it stays as it is.

        Raises:
            ShapeError: If the number of channels differs.
        """
        if len(other._digests) != len(self._digests):
            raise ShapeError(
                f"other must have {len(self._digests)} channels, got {len(other._digests)}. Merge like with like."
            )
        for mine, theirs in zip(self._digests, other._digests, strict=True):
            mine.merge(_compressed(theirs))

    def quantiles(self, shares: Sequence[float]) -> Float[ndarray, "share size"]:
        """Estimated quantiles.

        Args:
            shares: Each in [0, 1].
        """
        return np.array([[digest.get_quantile(share) for digest in self._digests] for share in shares])

    def __getstate__(self) -> dict[str, Any]:
        return {"digests": [bytes(_compressed(digest).serialize()) for digest in self._digests]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._digests = [tdigest_double.deserialize(digest) for digest in state["digests"]]


def _compressed(digest: tdigest_double) -> tdigest_double:
    """A copy without a buffer, so that results do not depend on whether a part has crossed processes."""
    twin = copy(digest)
    twin.compress()
    return twin
