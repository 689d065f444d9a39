"""From noise to an action chunk."""

import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from vla_kit.errors import SettingError, ShapeError
from vla_kit.protocols import Context, VelocityField

__all__ = ["sample_actions"]


@runtime_checkable
class _Conditions(Protocol):
    def condition(self, context: Context) -> Any: ...  # noqa: ANN401 (private to the head)


def sample_actions(
    head: VelocityField,
    context: Context,
    mask: Bool[Tensor, "batch_draw horizon channel"],
    *,
    solver: Callable[[Callable[[Tensor, Tensor], Tensor], Tensor], Tensor],
    generator: Generator | None = None,
    noise: Float[Tensor, "batch_draw horizon channel"] | None = None,
    temperature: float = 1.0,
) -> Float[Tensor, "batch_draw horizon channel"]:
    """Draw normalised action chunks: noise at time 1, carried to time 0 along the head's velocity.

    A head with a method `condition` (`DiTHead`) is conditioned once; all solver steps reuse the result. Gradients flow
    unless the caller is under `torch.no_grad()` or `torch.inference_mode()`, which inference should be.

    Args:
        head: Velocity field.
        context: Output of a backbone. The first axis of `mask` is a whole multiple of its batch, sample-major.
        mask: True where an action entry is wanted.
        solver: `Euler(steps=4)`, `Heun(...)`, or any `(field, noise) -> actions`.
        generator: Source of the noise, on the device of `mask`; ignored when `noise` is given.
        noise: Start of the integration, standard normal; None draws float32 noise.
        temperature: Factor on the noise, at least 0. Below 1 chunks are more alike.

    Returns:
        Actions, exactly 0 where `mask` is False. The normaliser's inverse makes them native.

    Raises:
        SettingError: If `temperature` is negative or not finite.
        ShapeError: If `noise` and `mask` differ in shape.

    Examples:
        >>> import torch
        >>> from vla_kit.flow import Euler
        >>> from vla_kit.heads import DiTHead
        >>> head = DiTHead(context_width=6, channels=4, width=16, depth=2, num_heads=2, mlp_hidden=32)
        >>> context = Context(
        ...     hidden=torch.randn(2, 5, 6),
        ...     mask=torch.ones(2, 5, dtype=torch.bool),
        ...     position_ids=torch.arange(5).expand(3, 2, 5),
        ... )
        >>> with torch.no_grad():
        ...     actions = sample_actions(head, context, torch.ones(2, 3, 4, dtype=torch.bool), solver=Euler(steps=4))
        >>> actions.shape
        torch.Size([2, 3, 4])

    Source:
        Qwen-VLA, arXiv 2605.30280, section 2.5 (Euler from 1 to 0) and 4.2 (temperature 1.0 in rollouts, 0.6 in
        evaluation). The paper does not say what temperature means for a flow; a factor on the first noise is ours.
    """
    if not 0 <= temperature < math.inf:
        raise SettingError(
            f"temperature must be at least 0 and finite, got {temperature}. Use 1.0 for the trained distribution."
        )
    if noise is None:
        noise = torch.randn(mask.shape, generator=generator, device=mask.device, dtype=torch.float32)
    elif noise.shape != mask.shape:
        raise ShapeError(
            f"noise must have the shape of mask {tuple(mask.shape)}, got {tuple(noise.shape)}. Leave it out to draw it."
        )
    start = torch.where(mask, temperature * noise, 0)
    conditioned = head.condition(context) if isinstance(head, _Conditions) else context
    return solver(lambda noisy_actions, time: head(noisy_actions, time, conditioned, mask), start)
