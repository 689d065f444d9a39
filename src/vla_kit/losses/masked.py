"""Mean squared error that padding cannot touch and in which every active channel weighs the same."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vla_kit.errors import ShapeError

__all__ = ["masked_mse"]


def masked_mse(
    prediction: Float[Tensor, "batch horizon channel"],
    target: Float[Tensor, "batch horizon channel"],
    mask: Bool[Tensor, "batch horizon channel"],
) -> Float[Tensor, " batch"]:
    """Mean squared error in two levels: over the valid steps of a channel, then over active channels.

    A 7-channel arm and a 32-channel hand weigh the same per sample, and so do short and long chunks. Padding never
    contributes, whatever it holds, NaN included.

    Args:
        prediction: Predicted velocity [normalised action / flow time].
        target: `noise - action`, same unit.
        mask: True where an entry is real. A channel is active when at least one of its steps is real.

    Returns:
        Error per sample, float32 or better; 0 for a sample without valid entries.

    Raises:
        ShapeError: If the three shapes differ.

    Examples:
        >>> import torch
        >>> target = torch.tensor([[[1.0, float("nan")]]])
        >>> masked_mse(torch.zeros(1, 1, 2), target, torch.tensor([[[True, False]]]))
        tensor([1.])

    Source:
        Qwen-VLA, arXiv 2605.30280, section 2.5, equations 1-2: mean over steps, then over the active channels.
    """
    for name, tensor in (("prediction", prediction), ("mask", mask)):
        if tensor.shape != target.shape:
            raise ShapeError(
                f"{name} must have the shape of target {tuple(target.shape)}, got {tuple(tensor.shape)}. "
                "Build both with MaskedActions.pad."
            )
    dtype = torch.promote_types(torch.promote_types(prediction.dtype, target.dtype), torch.float32)
    error = torch.where(mask, prediction.to(dtype) - target.to(dtype), 0)
    steps = mask.sum(1)  # [batch channel]
    per_channel = error.square().sum(1) / steps.clamp(min=1)
    return per_channel.sum(-1) / (steps > 0).sum(-1).clamp(min=1)
