"""A context as a head remembers it: what need not be computed again at the next flow time."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from vla_kit.errors import DtypeError, ShapeError
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


def check_context(context: Context, width: int) -> None:
    """Refuse a context that a head cannot read; shapes and dtypes alone, no value is looked at.

    Args:
        context: Output of a backbone.
        width: Features of a context token that the head expects.

    Raises:
        ShapeError: If the width is another one, or the parts of the context differ in their samples or tokens.
        DtypeError: If the states are not floating point, or the mask is not bool.
    """
    hidden, mask, position_ids = context.hidden, context.mask, context.position_ids
    if hidden.ndim != 3:
        raise ShapeError(
            f"context.hidden must have the axes (batch, token, width), got {tuple(hidden.shape)}. Give one batch."
        )
    if hidden.shape[-1] != width:
        raise ShapeError(
            f"context.hidden must have {width} features, got {tuple(hidden.shape)}. "
            "Build the head with context_width=backbone.width."
        )
    for name, shape, wanted in (
        ("mask", mask.shape, hidden.shape[:2]),
        ("position_ids", position_ids.shape, (3, *hidden.shape[:2])),
    ):
        if shape != wanted:
            raise ShapeError(
                f"context.{name} must have the shape {tuple(wanted)} beside hidden {tuple(hidden.shape)}, got "
                f"{tuple(shape)}. Take the parts of one context."
            )
    if not hidden.is_floating_point():
        raise DtypeError(f"context.hidden must be floating point, got {hidden.dtype}. Take the states of a backbone.")
    if mask.dtype != torch.bool:
        raise DtypeError(f"context.mask must be torch.bool, got {mask.dtype}. Convert it with .bool().")
    if position_ids.is_floating_point() or position_ids.is_complex():
        raise DtypeError(f"context.position_ids must be whole numbers, got {position_ids.dtype}. Count tokens.")


def next_position(
    position_ids: Int[Tensor, "3 batch token"], mask: Bool[Tensor, "batch token"]
) -> Int[Tensor, " batch"]:
    """Rotary position that follows the last real token on all three axes; 0 after no token."""
    real = torch.where(mask, position_ids, -1)
    return functional.pad(real, (1, 0), value=-1).amax((0, 2)) + 1
