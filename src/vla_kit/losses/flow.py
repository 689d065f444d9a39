"""The flow-matching loss: several noise draws per sample behind one backbone pass."""

from collections.abc import Callable
from typing import Any

import torch
from einops import reduce
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from vla_kit.actions.masked import MaskedActions
from vla_kit.errors import SettingError
from vla_kit.flow.path import interpolate, target_velocity
from vla_kit.losses.masked import masked_mse
from vla_kit.protocols import Context, TimeSampler, VelocityField

__all__ = ["FlowMatchingLoss"]


class FlowMatchingLoss:
    """Error of a velocity field at random times, `draws` of them per sample.

    Per draw: noise from N(0, I), a time from `time_sampler`, the straight path between action and noise, and
    `masked_mse` against `noise - action`. The draws of a sample share its context, so the backbone runs once.

    Args:
        time_sampler: Law of the flow time, a `TimeSampler`.
        draws: Noise draws per sample, at least 1. More draws give a calmer gradient for the price of the head alone.
        max_delay: Longest known beginning, at least 0. Above 0 each draw gives the head between 0 and so many first
            steps clean, at time 0, and asks for the rest alone, so that the policy can go on from a chunk that is
            being carried out (`CleanPrefix`). The field then has to take a time per step. At least one step is asked.

    Raises:
        SettingError: If `draws` is below 1 or `max_delay` below 0.

    Examples:
        A field that answers 0 everywhere, at actions 0, errs by the variance of the noise:

        >>> import torch
        >>> from vla_kit.flow import UniformTime
        >>> shape = (2, 50, 10)
        >>> actions = MaskedActions(values=torch.zeros(shape), mask=torch.ones(shape, dtype=torch.bool))
        >>> context = Context(
        ...     hidden=torch.zeros(2, 1, 4),
        ...     mask=torch.ones(2, 1, dtype=torch.bool),
        ...     position_ids=torch.zeros(3, 2, 1, dtype=torch.long),
        ... )
        >>> loss = FlowMatchingLoss(UniformTime(), draws=8)
        >>> field = lambda noisy_actions, time, context, mask: torch.zeros_like(noisy_actions)
        >>> loss(field, actions, context, generator=torch.Generator().manual_seed(0)).round(decimals=1)
        tensor([1., 1.])

    Source:
        Qwen-VLA, arXiv 2605.30280, section 2.5, equations 1-2. The paper does not say how many draws share a backbone
        pass; 4 to 8 are those of VITRA and Qwen-RobotManip. Known beginnings: training-time action conditioning for
        real-time chunking, arXiv 2512.05964; delays are equally likely here.
    """

    # jsonargparse takes a protocol of one __call__ for a factory of what it returns; the Callable keeps YAML working.
    def __init__(self, time_sampler: TimeSampler | Callable[..., Any], *, draws: int = 4, max_delay: int = 0) -> None:
        if draws < 1:
            raise SettingError(f"draws must be at least 1, got {draws}. Use 4 to 8.")
        if max_delay < 0:
            raise SettingError(f"max_delay must be at least 0, got {max_delay}. Use 0 for no known beginnings.")
        self.time_sampler = time_sampler
        self.draws = draws
        self.max_delay = max_delay

    def __repr__(self) -> str:
        delay = f", max_delay={self.max_delay}" if self.max_delay else ""
        return f"FlowMatchingLoss({self.time_sampler!r}, draws={self.draws}{delay})"

    def __call__(
        self,
        field: VelocityField,
        actions: MaskedActions,
        context: Context,
        *,
        generator: Generator | None = None,
    ) -> Float[Tensor, " batch"]:
        """Loss per sample, the mean over its draws.

        Args:
            field: Predicts the velocity; sees padding as zeros.
            actions: Normalised actions, one chunk per sample.
            context: One entry per sample; the field repeats it over the draws.
            generator: Source of noise, times and delays, on the device of the actions.

        Returns:
            Loss per sample; 0 for a sample without valid entries.
        """
        batch = actions.values.shape[0]
        mask = actions.mask.repeat_interleave(self.draws, 0)
        # Noise, times and targets are float32 or better: in bfloat16 a time near 1 would be off by up to 0.002.
        exact = torch.promote_types(actions.values.dtype, torch.float32)
        clean = torch.where(actions.mask, actions.values, 0).to(exact).repeat_interleave(self.draws, 0)
        noise = torch.randn(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
        noise = torch.where(mask, noise, 0)
        time = self.time_sampler(batch * self.draws, like=clean, generator=generator)
        asked = mask
        if self.max_delay:
            known = self._known_steps(mask, generator)
            time, asked = torch.where(known, 0, time[:, None]), mask & ~known[..., None]
        velocity = field(interpolate(clean, noise, time), time, context, mask)
        per_draw = masked_mse(velocity, target_velocity(clean, noise), asked)
        return reduce(per_draw, "(batch draw) -> batch", "mean", batch=batch)

    def _known_steps(
        self, mask: Bool[Tensor, "batch_draw horizon channel"], generator: Generator | None
    ) -> Bool[Tensor, "batch_draw horizon"]:
        """True for the beginning of each draw that is given."""
        last = (mask.any(-1).sum(1) - 1).clamp(min=0)
        delay = torch.randint(self.max_delay + 1, last.shape, generator=generator, device=mask.device)
        return torch.arange(mask.shape[1], device=mask.device) < torch.minimum(delay, last)[:, None]
