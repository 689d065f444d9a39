"""A context as a head remembers it: what need not be computed again at the next flow time."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from vla_kit.errors import ShapeError
from vla_kit.protocols import Context

__all__ = ["Conditioned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditioned:
    """The part of a head's work that depends on the context alone, from `DiTHead.condition`.

    It belongs to the head that made it and is stale as soon as that head's parameters change.

    Args:
        mask: True where a context token is real.
        next_position: Rotary position of the first action step, on all three axes.
        tokens: Context at the head's width; attention "joint" only.
        angles: Rotary cosine and sine of `tokens`; attention "joint" only.
        keys: Keys of the context, one tensor per block; attention "cached" only.
        values: Values of the context, one tensor per block; attention "cached" only.
        address: Where the head's action projection finds the robots; for heads that have one only.

    Examples:
        >>> import torch
        >>> from vla_kit.heads import DiTHead
        >>> from vla_kit.protocols import Context
        >>> head = DiTHead(context_width=6, width=16, depth=3, num_heads=2, mlp_hidden=8, attention="cached")
        >>> context = Context(
        ...     hidden=torch.randn(1, 5, 6),
        ...     mask=torch.ones(1, 5, dtype=torch.bool),
        ...     position_ids=torch.arange(5).expand(3, 1, 5),
        ... )
        >>> conditioned = head.condition(context)
        >>> len(conditioned.keys), conditioned.next_position
        (3, tensor([5]))
    """

    mask: Bool[Tensor, "batch token"]
    next_position: Int[Tensor, " batch"]
    tokens: Float[Tensor, "batch token width"] | None = None
    angles: tuple[Tensor, Tensor] | None = None
    keys: tuple[Float[Tensor, "batch token head head_width"], ...] = ()
    values: tuple[Float[Tensor, "batch token head head_width"], ...] = ()
    address: Int[Tensor, "batch ..."] | None = None


def check_context_width(context: Context, width: int) -> None:
    """Refuse a context of another width than a head was built for.

    Args:
        context: Output of a backbone.
        width: Features of a context token that the head expects.

    Raises:
        ShapeError: If they differ.
    """
    if context.hidden.shape[-1] != width:
        raise ShapeError(
            f"context.hidden must have {width} features, got {tuple(context.hidden.shape)}. "
            "Build the head with context_width=backbone.width."
        )


def next_position(
    position_ids: Int[Tensor, "3 batch token"], mask: Bool[Tensor, "batch token"]
) -> Int[Tensor, " batch"]:
    """Rotary position that follows the last real token on all three axes; 0 after no token."""
    real = torch.where(mask, position_ids, -1)
    return functional.pad(real, (1, 0), value=-1).amax((0, 2)) + 1
