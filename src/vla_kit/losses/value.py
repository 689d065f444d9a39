"""The loss of a value head: clipped against jumps, robust against outliers."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import huber_loss

from vla_kit.errors import NonFiniteError, SettingError, ShapeError

__all__ = ["ClippedValueLoss", "ValueTerms"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueTerms:
    """The loss of a value head, and what to watch of it. Only `loss` has a graph.

    Args:
        loss: What to minimise.
        clip_fraction: Share of values that moved further than the clip range.
        explained_variance: `1 - variance(returns - values) / variance(returns)`: 1 is perfect, 0 no better than a
            constant; 0 as well where all returns are equal.
    """

    loss: Float[Tensor, ""]
    clip_fraction: Float[Tensor, ""]
    explained_variance: Float[Tensor, ""]


class ClippedValueLoss:
    """The larger of two errors: that of the value, and that of the value kept within `clip` of the old one.

    An error is half its square up to `huber_delta`, and linear beyond.

    Args:
        clip: How far a value may move from the one that the rollout saw, above 0.
        huber_delta: Error at which squares turn linear, above 0.

    Raises:
        SettingError: If a value is not above 0 and finite.

    Examples:
        The value moved by 0.5 and hit its return of 1; held within 0.2 it would be off by 0.3:

        >>> import torch
        >>> terms = ClippedValueLoss()(torch.tensor([1.0]), torch.tensor([0.5]), torch.tensor([1.0]))
        >>> round(terms.loss.item(), 4)  # 0.3 ** 2 / 2
        0.045

    Source:
        Qwen-VLA, arXiv 2605.30280, section 4.2: clipped squared error. RLinf's values: 0.2, and Huber's delta of 10.
    """

    def __init__(self, *, clip: float = 0.2, huber_delta: float = 10.0) -> None:
        for name, value in (("clip", clip), ("huber_delta", huber_delta)):
            if not (math.isfinite(value) and value > 0):
                raise SettingError(f"{name} must be above 0 and finite, got {value}. RLinf's are 0.2 and 10.")
        self.clip = clip
        self.huber_delta = huber_delta

    def __repr__(self) -> str:
        return f"ClippedValueLoss(clip={self.clip}, huber_delta={self.huber_delta})"

    def __call__(
        self, values: Float[Tensor, " batch"], old_values: Float[Tensor, " batch"], returns: Float[Tensor, " batch"]
    ) -> ValueTerms:
        """Loss of a minibatch of chunks.

        Args:
            values: Under the weights that are trained.
            old_values: What the rollout saw.
            returns: What `generalized_advantages` gave.

        Raises:
            ShapeError: If shapes differ.
            NonFiniteError: If an entry is inf or NaN.
        """
        for name, part in (("old_values", old_values), ("returns", returns)):
            if part.shape != values.shape:
                raise ShapeError(
                    f"{name} must have the shape of values {tuple(values.shape)}, got {tuple(part.shape)}. "
                    "Give one entry per chunk."
                )
        for name, part in (("values", values), ("old_values", old_values), ("returns", returns)):
            if not bool(part.isfinite().all()):
                raise NonFiniteError(f"{name} must be finite, got inf or NaN. Lower the value head's learning rate.")
        old, target = old_values.detach(), returns.detach()
        moved = values - old
        held = old + moved.clamp(-self.clip, self.clip)
        free, kept = (huber_loss(guess, target, reduction="none", delta=self.huber_delta) for guess in (values, held))
        spread = target.var(correction=0)
        left = (target - values.detach()).var(correction=0)
        return ValueTerms(
            loss=torch.maximum(free, kept).mean(),
            clip_fraction=(moved.detach().abs() > self.clip).to(values.dtype).mean(),
            explained_variance=torch.where(spread > 0, 1 - left / spread.clamp(min=torch.finfo(spread.dtype).tiny), 0),
        )
