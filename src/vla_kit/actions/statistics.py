"""Quantile statistics of native actions, the numbers behind the normaliser."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vla_kit.errors import StatisticsError

__all__ = ["QuantileStats"]

_JSON_KEYS = {"q01": "q01", "q99": "q99", "min": "minimum", "max": "maximum", "mean": "mean", "std": "std"}


@dataclass(frozen=True, eq=False)
class QuantileStats:
    """The 1 % and 99 % quantiles of every channel of one data set, with the usual moments beside them.

    Only `q01` and `q99` enter the normaliser; published files often leave the others out. Everything is computed in
    float64 and kept in float32.

    Args:
        q01: 1 % quantile of each channel [native unit].
        q99: 99 % quantile of each channel, at least `q01`.
        minimum: Smallest value.
        maximum: Largest value.
        mean: Mean.
        std: Population standard deviation.
        count: Frames behind the numbers.

    Raises:
        StatisticsError: If shapes differ, a value is not finite, `q99` is below `q01` or `count` is negative.

    Examples:
        >>> import numpy as np
        >>> frames = np.arange(101.0)[:, None]
        >>> stats = QuantileStats.from_frames(frames)
        >>> stats.q01, stats.q99, stats.count
        (tensor([1.]), tensor([99.]), 101)
        >>> QuantileStats.from_dict(stats.to_dict()).fingerprint == stats.fingerprint
        True

    Source:
        Qwen-VLA, arXiv 2605.30280, equation 5: q01 and q99 per data set and dimension.
    """

    q01: Float[Tensor, " size"]
    q99: Float[Tensor, " size"]
    minimum: Float[Tensor, " size"] | None = None
    maximum: Float[Tensor, " size"] | None = None
    mean: Float[Tensor, " size"] | None = None
    std: Float[Tensor, " size"] | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        for name in _JSON_KEYS.values():
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _vector(getattr(self, name), name=name))
        if self.q01.numel() == 0:
            raise StatisticsError("q01 must hold at least one channel, got none. Compute statistics of real actions.")
        for name in _JSON_KEYS.values():
            value = getattr(self, name)
            if value is not None and value.shape != self.q01.shape:
                raise StatisticsError(
                    f"{name} must have the shape of q01 {tuple(self.q01.shape)}, got {tuple(value.shape)}. "
                    "Take both from the same statistics."
                )
        turned = (self.q99 < self.q01).nonzero().flatten().tolist()
        if turned:
            raise StatisticsError(f"q99 must be at least q01, got less in channels {turned}. Are the two exchanged?")
        if self.count is not None and self.count < 0:
            raise StatisticsError(f"count must be at least 0, got {self.count}. Leave it out where unknown.")

    @property
    def size(self) -> int:
        """Number of channels."""
        return self.q01.numel()

    @property
    def fingerprint(self) -> str:
        """Short hexadecimal digest of `q01` and `q99` in float32, equal on every machine."""
        digest = hashlib.sha256()
        for value in (self.q01, self.q99):
            digest.update((value + 0.0).cpu().numpy().astype("<f4").tobytes())  # + 0.0 makes -0.0 equal to 0.0
        return digest.hexdigest()[:16]

    @classmethod
    def from_frames(cls, frames: np.ndarray | Tensor) -> "QuantileStats":
        """Compute the exact statistics of all frames, with linear interpolation between neighbours.

        Args:
            frames: Native actions of the data set, shape (frames, size), every frame once.

        Returns:
            The statistics.

        Raises:
            StatisticsError: If `frames` is empty, not two-dimensional or holds NaN or infinity.
        """
        array = np.asarray(frames.detach().cpu().double() if isinstance(frames, Tensor) else frames, dtype=np.float64)
        if array.ndim != 2 or array.size == 0:
            raise StatisticsError(
                f"frames must have the axes (frames, size) and not be empty, got shape {array.shape}. "
                "Concatenate the actions of all episodes."
            )
        broken = np.flatnonzero(~np.isfinite(array).all(axis=0)).tolist()
        if broken:
            raise StatisticsError(
                f"frames must be finite, got NaN or infinity in channels {broken}. Drop the broken frames first."
            )
        q01, q99 = np.quantile(array, [0.01, 0.99], axis=0, method="linear")
        moments = (q01, q99, array.min(0), array.max(0), array.mean(0), array.std(0))
        low, high, minimum, maximum, mean, std = (_vector(value, name="frames") for value in moments)
        return cls(low, high, minimum, maximum, mean, std, len(array))

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> "QuantileStats":
        """Read the entry of one feature from a published statistics file.

        Args:
            entry: `q01` and `q99` and, where known, `min`, `max`, `mean`, `std` and `count`, as in LeRobot's
                `stats.json`, the Open X-Embodiment statistics and openpi's `norm_stats.json`. Other keys (more
                quantiles, `mask`) are not read: which channels are normalised is for the `ActionSpace` to say.

        Returns:
            The statistics.

        Raises:
            StatisticsError: If `q01` or `q99` is missing, or the numbers are impossible.

        Examples:
            >>> QuantileStats.from_dict({"q01": [0.0], "q99": [1.0], "mask": [True]}).minimum is None
            True
        """
        missing = [key for key in ("q01", "q99") if entry.get(key) is None]
        if missing:
            raise StatisticsError(
                f"entry must hold q01 and q99, got the keys {sorted(entry)}. "
                "Pick the entry of the action, or compute it with QuantileStats.from_frames."
            )
        values = {
            field: _vector(entry[key], name=key) for key, field in _JSON_KEYS.items() if entry.get(key) is not None
        }
        count = entry.get("count")
        return cls(**values, count=None if count is None else int(np.max(count)))

    def to_dict(self) -> dict[str, list[float] | int]:
        """Write the statistics as JSON values under the keys of LeRobot; unknown ones are left out."""
        values: dict[str, list[float] | int] = {
            key: getattr(self, field).tolist() for key, field in _JSON_KEYS.items() if getattr(self, field) is not None
        }
        return values if self.count is None else {**values, "count": self.count}


def _vector(values: Any, *, name: str) -> Tensor:  # noqa: ANN401 (JSON, NumPy or torch)
    vector = torch.as_tensor(np.asarray(values, dtype=np.float64) if not isinstance(values, Tensor) else values)
    vector = vector.detach().to(device="cpu", dtype=torch.float32)
    if vector.ndim != 1:
        raise StatisticsError(
            f"{name} must have one axis (size,), got shape {tuple(vector.shape)}. Flatten the feature."
        )
    broken = [index for index, value in enumerate(vector.tolist()) if not math.isfinite(value)]
    if broken:
        raise StatisticsError(
            f"{name} must be finite, got NaN or infinity in channels {broken}. Recompute from frames."
        )
    return vector
