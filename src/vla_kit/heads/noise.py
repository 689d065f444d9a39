"""How much noise a sampler's steps should have: a small network for `LearnedNoiseEuler`."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla_kit.errors import SettingError, ShapeError
from vla_kit.heads.conditioned import check_context
from vla_kit.heads.pooling import mean_token
from vla_kit.heads.time_features import TIME_FEATURES, time_features
from vla_kit.protocols import Context

__all__ = ["NoiseHead"]


class NoiseHead(nn.Module):
    """Standard deviation of each entry of a noisy step, from the mean of the context, the point and the time.

    The logarithm of the deviation moves smoothly between its bounds, by `tanh`, so that gradients never stop at one. A
    new head answers the geometric mean of the bounds everywhere. No gradient reaches the backbone.

    Args:
        context_width: Features of a context token, the backbone's `width`.
        channels: Padded action width.
        width: Hidden features.
        smallest_std: Lower bound of the standard deviation [normalised action], above 0.
        largest_std: Upper bound, above the lower one.

    Raises:
        SettingError: If a size is below 1 or the bounds are not in order.

    Examples:
        >>> import torch
        >>> head = NoiseHead(context_width=6, channels=4)
        >>> context = Context(
        ...     hidden=torch.randn(2, 5, 6),
        ...     mask=torch.ones(2, 5, dtype=torch.bool),
        ...     position_ids=torch.arange(5).expand(3, 2, 5),
        ... )
        >>> std = head(torch.randn(2, 3, 4), torch.tensor([1.0, 0.5]), context, torch.ones(2, 3, 4, dtype=torch.bool))
        >>> std.shape, round(std.mean().item(), 3)  # (0.08 * 0.16) ** 0.5
        (torch.Size([2, 3, 4]), 0.113)

    Source:
        ReinFlow, arXiv 2505.22094: noise from the observation and the time, within bounds. The bounds, and that the
        logarithm runs between them by `tanh`, are those of RLinf's Flow-Noise, which reads the features of the action
        expert instead. Not in Qwen-VLA.
    """

    def __init__(
        self,
        *,
        context_width: int,
        channels: int = 64,
        width: int = 128,
        smallest_std: float = 0.08,
        largest_std: float = 0.16,
    ) -> None:
        super().__init__()
        for name, value in (("context_width", context_width), ("channels", channels), ("width", width)):
            if value < 1:
                raise SettingError(f"{name} must be at least 1, got {value}. Use that of the backbone and the head.")
        if not (0 < smallest_std < largest_std and math.isfinite(largest_std)):
            raise SettingError(
                f"smallest_std must be above 0 and below largest_std {largest_std}, got {smallest_std}. "
                "Use 0.08 and 0.16."
            )
        self.context_width = context_width
        self.channels = channels
        self.smallest_std = smallest_std
        self.largest_std = largest_std
        self.context_in = nn.Linear(context_width, width)
        self.time_in = nn.Linear(TIME_FEATURES, width)
        self.point_in = nn.Linear(channels, width)
        self.hidden = nn.Linear(width, width)
        self.readout = nn.Linear(width, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew; the readout begins at 0."""
        for layer in (self.context_in, self.time_in, self.point_in, self.hidden):
            layer.reset_parameters()
        nn.init.zeros_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)

    def forward(
        self,
        noisy_actions: Float[Tensor, "batch_draw horizon channel"],
        time: Float[Tensor, " batch_draw"],
        context: Context,
        mask: Bool[Tensor, "batch_draw horizon channel"],
    ) -> Float[Tensor, "batch_draw horizon channel"]:
        """Standard deviation of the step that begins here.

        Args:
            noisy_actions: Points of the path; padding may hold anything.
            time: Flow time of each chunk, 0 = action, 1 = noise.
            context: What the backbone knows. The first axis of `noisy_actions` is a whole multiple of its batch,
                sample-major.
            mask: True where an action entry is real.

        Returns:
            Standard deviation [normalised action], dtype of `noisy_actions`; exactly 0 where `mask` is False.

        Raises:
            ShapeError: If channels, mask or batch do not fit.
        """
        check_context(context, self.context_width)
        batch = context.mask.shape[0]
        if noisy_actions.shape[-1] != self.channels or mask.shape != noisy_actions.shape or len(mask) % batch:
            raise ShapeError(
                f"noisy_actions and mask must have the shape (a multiple of {batch}, horizon, {self.channels}), got "
                f"{tuple(noisy_actions.shape)} and {tuple(mask.shape)}. Pad actions to the head's channels."
            )
        dtype = self.readout.weight.dtype
        seen = self.context_in(mean_token(context).detach().to(dtype)).repeat_interleave(len(mask) // batch, 0)
        when = self.time_in(time_features(time).to(dtype))
        where = self.point_in(torch.where(mask, noisy_actions, 0).to(dtype))
        hidden = nn.functional.silu(self.hidden(nn.functional.silu((seen + when)[:, None] + where)))
        # Density ratios amplify what bfloat16 would round off.
        share = torch.tanh(self.readout(hidden)).to(torch.promote_types(dtype, torch.float32))
        low, high = math.log(self.smallest_std), math.log(self.largest_std)
        std = torch.exp(0.5 * (low + high) + 0.5 * (high - low) * share)
        return torch.where(mask, std.to(noisy_actions.dtype), 0)
