"""One decision of a policy that explores, with all that its learning asks for later."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from vla_kit.flow import StochasticPath
from vla_kit.protocols import Context

__all__ = ["DrawnChunk", "join_contexts", "split_context"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DrawnChunk:
    """What a policy drew for one observation.

    Args:
        actions: Native actions of the whole chunk, float32.
        path: How they were drawn; one row.
        mask: True where an action entry is real.
        context: What the backbone made of the observation, one row without padding; None where the backbone learns, for
            then it is asked again.
        value: What the value head expected.
    """

    actions: Float[np.ndarray, "step size"]
    path: StochasticPath
    mask: Bool[Tensor, "horizon channel"]
    context: Context | None
    value: float


def split_context(context: Context) -> list[Context]:
    """Cut a batch into rows of batch 1 without padding.

    Args:
        context: Of a batch.

    Returns:
        One context per sample; joined again they are the batch, but for what stood in padding.
    """
    rows = []
    for row, real in enumerate(context.mask):
        rows.append(
            replace(
                context,
                hidden=context.hidden[row : row + 1, real],
                mask=context.mask[row : row + 1, real],
                position_ids=context.position_ids[:, row : row + 1, real],
                logits=None,
                embodiments=context.embodiments[row : row + 1],
                state=None if context.state is None else context.state[row : row + 1],
                state_mask=None if context.state_mask is None else context.state_mask[row : row + 1],
            )
        )
    return rows


def join_contexts(rows: Sequence[Context]) -> Context:
    """One batch of rows, padded at the end to the longest.

    Args:
        rows: Contexts of batch 1, at least one; all with a state or none.

    Returns:
        The batch.

    Examples:
        >>> row = Context(
        ...     hidden=torch.ones(1, 2, 4),
        ...     mask=torch.ones(1, 2, dtype=torch.bool),
        ...     position_ids=torch.zeros(3, 1, 2, dtype=torch.long),
        ... )
        >>> longer = Context(
        ...     hidden=torch.ones(1, 3, 4),
        ...     mask=torch.ones(1, 3, dtype=torch.bool),
        ...     position_ids=torch.zeros(3, 1, 3, dtype=torch.long),
        ... )
        >>> join_contexts([row, longer]).mask.tolist()
        [[True, True, False], [True, True, True]]
    """
    length = max(row.hidden.shape[1] for row in rows)

    def padded(tensor: Tensor, axes: int) -> Tensor:
        return functional.pad(tensor, (*(0, 0) * axes, 0, length - tensor.shape[-1 - axes]))

    states = [row.state for row in rows if row.state is not None]
    masks = [row.state_mask for row in rows if row.state_mask is not None]
    return Context(
        hidden=torch.cat([padded(row.hidden, 1) for row in rows]),
        mask=torch.cat([padded(row.mask, 0) for row in rows]),
        position_ids=torch.cat([padded(row.position_ids, 0) for row in rows], 1),
        embodiments=tuple(name for row in rows for name in row.embodiments),
        state=torch.cat(states) if states else None,
        state_mask=torch.cat(masks) if masks else None,
    )
