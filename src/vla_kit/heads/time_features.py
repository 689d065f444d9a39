"""Flow time as sinusoids."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["TIME_FEATURES", "time_features"]

TIME_FEATURES = 256
"""Features of one flow time."""

_TIME_FACTOR = 1000.0


def time_features(time: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape features"]:
    """Cosines and sines of 1000 * time at 128 frequencies between 1 and 1 / 10,000, float32.

    Args:
        time: Flow time in [0, 1].

    Examples:
        >>> import torch
        >>> features = time_features(torch.zeros(2))
        >>> features.shape, features.sum(1)
        (torch.Size([2, 256]), tensor([128., 128.]))

    Source:
        DiT, arXiv 2212.09748.
    """
    half = TIME_FEATURES // 2
    frequency = torch.exp(torch.arange(half, device=time.device, dtype=torch.float32) * (-math.log(10_000) / half))
    angle = _TIME_FACTOR * time.float()[..., None] * frequency
    return torch.cat([angle.cos(), angle.sin()], -1)
