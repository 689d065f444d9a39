"""A head that predicts clean actions around a linear readout of the context, and answers with a velocity."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla_kit.errors import SettingError
from vla_kit.heads.conditioned import check_context
from vla_kit.heads.pooling import mean_token
from vla_kit.protocols import Context

__all__ = ["AnchoredContext", "AnchoredHead"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchoredContext:
    """What `AnchoredHead.condition` keeps of a context, for all flow times.

    Args:
        inner: The same of the head inside.
        anchor: Linear readout of the context, the first guess of the action.
    """

    inner: Any
    anchor: Float[Tensor, "batch horizon channel"]


class AnchoredHead(nn.Module):
    """Velocity from a predicted action: a linear readout of the context, and what a head adds to it.

    The head inside answers with an action, not a velocity. The guess is `readout(mean of the context) + head(...)` and
    the velocity `(noisy_actions - guess) / time`, so loss, samplers and solvers stay as they are.

    Why: a velocity is `noise - action`, and a small head spends its first thousand steps on copying the noise; the
    errors of the copy drown what the picture has to say. A predicted action copies nothing. The readout has weights of
    its own for each step and channel, which gives the backbone a steady gradient from the first step on.
    `benchmarks/anchored_head.py` measures what that brings.

    Draw times near noise with it (`BetaTime(alpha=8, beta=1)`): the error of the velocity is that of the action divided
    by `time`, and few small times outweigh all others.

    Args:
        head: Satisfies `VelocityField`, has `channels` and `condition`, such as `DiTHead`.
        context_width: Features of a context token, the backbone's `width`.
        horizon: Steps that the readout knows; the head alone answers for later ones.
        smallest_time: Times below count as this one in the division, in (0, 1].

    Raises:
        SettingError: If a number is out of range.

    Examples:
        >>> import torch
        >>> from vla_kit.heads import DiTHead
        >>> inner = DiTHead(context_width=6, channels=4, width=16, depth=2, num_heads=2, mlp_hidden=32)
        >>> head = AnchoredHead(inner, context_width=6, horizon=3)
        >>> context = Context(
        ...     hidden=torch.randn(2, 5, 6),
        ...     mask=torch.ones(2, 5, dtype=torch.bool),
        ...     position_ids=torch.arange(5).expand(3, 2, 5),
        ... )
        >>> noisy_actions, mask = torch.randn(2, 3, 4), torch.ones(2, 3, 4, dtype=torch.bool)
        >>> velocity = head(noisy_actions, torch.ones(2), context, mask)
        >>> guess = head.condition(context).anchor  # a new DiTHead adds nothing
        >>> torch.allclose(velocity, noisy_actions - guess)
        True

    Source:
        Predicting the clean sample and converting it to a velocity: Li and He, arXiv 2511.13720. The readout is ours.
        Qwen-VLA (arXiv 2605.30280, section 2.5) predicts the velocity; this head is for small sizes.
    """

    def __init__(self, head: nn.Module, *, context_width: int, horizon: int = 16, smallest_time: float = 0.05) -> None:
        super().__init__()
        for name, value in (("context_width", context_width), ("horizon", horizon)):
            if value < 1:
                raise SettingError(f"{name} must be at least 1, got {value}. Use that of the backbone and the data.")
        if not (math.isfinite(smallest_time) and 0 < smallest_time <= 1):
            raise SettingError(f"smallest_time must lie in (0, 1], got {smallest_time}. Use 0.05.")
        self.head = head
        self.context_width = context_width
        self.horizon = horizon
        self.smallest_time = smallest_time
        channels: Any = head.channels
        self.channels = int(channels)
        self.readout = nn.Linear(context_width, horizon * self.channels)

    def condition(self, context: Context) -> AnchoredContext:
        """Compute once what depends on the context alone; `forward` takes the result in place of the context.

        Args:
            context: Output of a backbone.

        Returns:
            The readout, and what the head inside remembers.

        Raises:
            ShapeError: If the context does not have `context_width` features, or its parts differ in their tokens.
            DtypeError: If its states are not floating point, or its mask is not bool.
        """
        check_context(context, self.context_width)
        anchor = self.readout(mean_token(context).to(self.readout.weight.dtype)).unflatten(
            -1, (self.horizon, self.channels)
        )
        remember: Any = self.head.condition
        return AnchoredContext(inner=remember(context), anchor=anchor)

    def forward(
        self,
        noisy_actions: Float[Tensor, "batch_draw horizon channel"],
        time: Float[Tensor, " batch_draw"] | Float[Tensor, "batch_draw horizon"],
        context: Context | AnchoredContext,
        mask: Bool[Tensor, "batch_draw horizon channel"],
    ) -> Float[Tensor, "batch_draw horizon channel"]:
        """Predict the velocity `noise - action`.

        Args:
            noisy_actions: Points of the path; padding may hold anything.
            time: Flow time of each chunk or of each of its steps, 0 = action, 1 = noise.
            context: What the backbone knows, or the result of `condition` on it. The first axis of `noisy_actions` is a
                whole multiple of its batch, sample-major.
            mask: True where an action entry is real.

        Returns:
            Velocity, dtype of `noisy_actions`; exactly 0 where `mask` is False.

        Raises:
            ShapeError: If channels, mask, time or batch do not fit.
        """
        conditioned = context if isinstance(context, AnchoredContext) else self.condition(context)
        added = self.head(noisy_actions, time, conditioned.inner, mask)  # checks the shapes
        draws = noisy_actions.shape[0] // conditioned.anchor.shape[0]
        known = min(self.horizon, noisy_actions.shape[1])
        anchor = nn.functional.pad(conditioned.anchor[:, :known], (0, 0, 0, noisy_actions.shape[1] - known))
        guess = added + anchor.to(added.dtype).repeat_interleave(draws, 0)
        span = time.clamp(min=self.smallest_time).to(noisy_actions.dtype)
        span = span[:, None, None] if time.ndim == 1 else span[..., None]
        return torch.where(mask, (noisy_actions - guess) / span, 0)
