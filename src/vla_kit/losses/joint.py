"""The weighted sum of action and language loss."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vla_kit.errors import SettingError, ShapeError

__all__ = ["JointLoss"]


class JointLoss:
    """`action_weight * mean(action) + language_weight * language`; either part may be absent.

    Args:
        action_weight: Weight of the flow-matching loss, at least 0.
        language_weight: Weight of the next-token loss, at least 0.

    Raises:
        SettingError: If a weight is negative or not finite.

    Examples:
        >>> import torch
        >>> loss = JointLoss(action_weight=1.0, language_weight=0.1)
        >>> loss(action=torch.tensor([1.0, 3.0]), language=torch.tensor(5.0))
        tensor(2.5000)
        >>> loss(language=torch.tensor(5.0))
        tensor(0.5000)

    Source:
        Qwen-VLA, arXiv 2605.30280, section 2.5 (weighted sum) and 4.1 (weights 1.0 and 0.1 of fine-tuning, the
        defaults here; those of pretraining are not published).
    """

    def __init__(self, *, action_weight: float = 1.0, language_weight: float = 0.1) -> None:
        for name, weight in (("action_weight", action_weight), ("language_weight", language_weight)):
            if not (math.isfinite(weight) and weight >= 0):
                raise SettingError(f"{name} must be at least 0 and finite, got {weight}. Use 0 to drop the part.")
        self.action_weight = action_weight
        self.language_weight = language_weight

    def __repr__(self) -> str:
        return f"JointLoss(action_weight={self.action_weight}, language_weight={self.language_weight})"

    def __call__(
        self,
        *,
        action: Float[Tensor, " batch"] | None = None,
        language: Float[Tensor, ""] | None = None,
        has_actions: Bool[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, ""]:
        """Total loss.

        Args:
            action: Loss per sample, as `FlowMatchingLoss` gives it; None or empty when the batch holds no actions.
            language: Loss of the batch, as `next_token_loss` gives it; None when nothing is spoken.
            has_actions: True for samples that have actions at all; the mean is over these. None means all. In a
                batch that mixes robots with question answering it keeps the questions from diluting the action loss.

        Returns:
            One number with a graph.

        Raises:
            SettingError: If both parts are None.
            ShapeError: If `has_actions` does not have the shape of `action`.
        """
        if action is None and language is None:
            raise SettingError("action must be given when language is None, got None for both. Pass at least one loss.")
        parts: list[Tensor] = []
        if action is not None:
            counted = torch.ones_like(action, dtype=torch.bool) if has_actions is None else has_actions
            if counted.shape != action.shape:
                raise ShapeError(
                    f"has_actions must have the shape of action {tuple(action.shape)}, got {tuple(counted.shape)}. "
                    "Give one entry per sample."
                )
            mean = torch.where(counted, action, 0).sum() / counted.sum().clamp(min=1)
            parts.append(self.action_weight * mean)
        if language is not None:
            parts.append(self.language_weight * language)
        return sum(parts[1:], start=parts[0])
