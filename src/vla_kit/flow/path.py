"""The straight path from an action (time 0) to noise (time 1)."""

from jaxtyping import Float
from torch import Tensor

from vla_kit.errors import ShapeError

__all__ = ["interpolate", "target_velocity"]


def interpolate(
    actions: Float[Tensor, "batch ..."],
    noise: Float[Tensor, "batch ..."],
    time: Float[Tensor, "batch ..."],
) -> Float[Tensor, "batch ..."]:
    """Point of the straight path: `(1 - time) * actions + time * noise`.

    Args:
        actions: Normalised actions, any shape after the first axis.
        noise: Standard normal noise of the same shape.
        time: Flow time per sample, or per sample and step, in [0, 1]: 0 gives the action back, 1 the noise.

    Returns:
        Noisy actions, shape of `actions`.

    Raises:
        ShapeError: If `noise` differs in shape from `actions`, or the axes of `time` are not its first.

    Examples:
        >>> import torch
        >>> interpolate(torch.zeros(2, 1, 1), torch.ones(2, 1, 1), torch.tensor([0.0, 0.25])).flatten()
        tensor([0.0000, 0.2500])

    Source:
        Qwen-VLA, arXiv 2605.30280, section 2.5: Y_tau = (1 - tau) Y_0 + tau Y_1.
    """
    _check_same_shape(actions, noise)
    if time.ndim == 0 or time.shape != actions.shape[: time.ndim]:
        raise ShapeError(
            f"time must have the shape {tuple(actions.shape[:1])}, got {tuple(time.shape)}. "
            "Give one time per sample, or one per sample and step."
        )
    time = time.reshape(*time.shape, *[1] * (actions.ndim - time.ndim))
    return (1 - time) * actions + time * noise


def target_velocity(actions: Float[Tensor, "*shape"], noise: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Derivative of the path by time: `noise - actions`, the same at every time.

    Args:
        actions: Normalised actions.
        noise: Standard normal noise of the same shape.

    Returns:
        Velocity [normalised action / flow time].

    Raises:
        ShapeError: If the shapes differ.

    Examples:
        >>> import torch
        >>> target_velocity(torch.tensor([0.5]), torch.tensor([2.0]))
        tensor([1.5000])

    Source:
        Qwen-VLA, arXiv 2605.30280, section 2.5: the regression target Y_1 - Y_0.
    """
    _check_same_shape(actions, noise)
    return noise - actions


def _check_same_shape(actions: Tensor, noise: Tensor) -> None:
    if noise.shape != actions.shape:
        raise ShapeError(
            f"noise must have the shape of actions {tuple(actions.shape)}, got {tuple(noise.shape)}. "
            "Draw it with torch.randn_like(actions)."
        )
