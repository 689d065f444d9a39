"""Several data sets in every batch, in chosen shares."""

from collections.abc import Sequence, Sized

import torch
from jaxtyping import Float
from torch import Tensor

from vla_kit.errors import SettingError

__all__ = ["mixture_weights"]


def mixture_weights(parts: Sequence[Sized], shares: Sequence[float]) -> Float[Tensor, " item"]:
    """Chance of each item, so that a part is drawn in proportion to its share, however long it is.

    Args:
        parts: Data sets, in the order of a `ConcatDataset`.
        shares: Weight of each, at least 0, not all 0.

    Returns:
        One weight per item for `WeightedRandomSampler`; they sum to 1.

    Raises:
        SettingError: If counts differ, or a share is negative, or none is above 0.

    Examples:
        >>> mixture_weights([range(2), range(4)], [1.0, 1.0])
        tensor([0.2500, 0.2500, 0.1250, 0.1250, 0.1250, 0.1250], dtype=torch.float64)

    Source:
        Qwen-VLA, arXiv 2605.30280, section 2.5: every mini-batch mixes all tasks at a fixed ratio. The ratio of single
        data sets is not published; equal shares are our default.
    """
    if len(parts) != len(shares) or not parts:
        raise SettingError(
            f"shares must hold one weight per data set ({len(parts)}), got {list(shares)}. Give each one."
        )
    if min(shares) < 0 or sum(shares) <= 0:
        raise SettingError(f"shares must be at least 0 and not all 0, got {list(shares)}. Use 1 for equal shares.")
    total = sum(shares)
    return torch.cat(
        [
            torch.full((len(part),), share / total / len(part), dtype=torch.float64)
            for part, share in zip(parts, shares, strict=True)
        ]
    )
