"""One vector for a whole context."""

import torch
from jaxtyping import Float
from torch import Tensor

from vla_kit.protocols import Context

__all__ = ["mean_token"]


def mean_token(context: Context) -> Float[Tensor, "batch width"]:
    """Mean of the real tokens of each sample, float32; 0 where a sample has none.

    Padded tokens change nothing, whatever they hold, NaN included.

    Args:
        context: Output of a backbone.

    Examples:
        >>> import torch
        >>> hidden = torch.tensor([[[1.0], [3.0], [float("nan")]]])
        >>> mask, positions = torch.tensor([[True, True, False]]), torch.zeros(3, 1, 3, dtype=torch.long)
        >>> mean_token(Context(hidden=hidden, mask=mask, position_ids=positions))
        tensor([[2.]])
    """
    real = context.mask[..., None]
    total = torch.where(real, context.hidden, 0).float().sum(1)
    return total / real.sum(1).clamp(min=1)
