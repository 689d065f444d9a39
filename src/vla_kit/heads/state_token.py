"""The robot's state as one more token of the context."""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vla_kit.errors import DataError, DtypeError, SettingError, ShapeError
from vla_kit.heads.conditioned import check_context, next_position
from vla_kit.protocols import Context

__all__ = ["StateTokenHead", "state_channels"]


class StateTokenHead(nn.Module):
    """Gives a head the state of the robot: a two-layer network makes one context token of it, behind all others.

    It wraps any head that takes a context, in both attention modes, and works on the context alone: nothing is computed
    again at the next flow time. The token stands at the next rotary position, so action steps follow it. A sample whose
    state is all padding has no token, and gets the velocity that it gets without this wrapper.

    Args:
        head: Satisfies `VelocityField`, has `channels`, `context_width` and `condition`, such as `DiTHead`.
        state_channels: Padded width of the states.

    Raises:
        SettingError: If `state_channels` is below 1.

    Examples:
        >>> import torch
        >>> from vla_kit.heads import DiTHead
        >>> head = StateTokenHead(
        ...     DiTHead(context_width=6, channels=4, width=16, depth=2, num_heads=2, mlp_hidden=32),
        ...     state_channels=3,
        ... )
        >>> context = Context(
        ...     hidden=torch.randn(2, 5, 6),
        ...     mask=torch.ones(2, 5, dtype=torch.bool),
        ...     position_ids=torch.arange(5).expand(3, 2, 5),
        ...     state=torch.randn(2, 3),
        ...     state_mask=torch.tensor([[True, True, True], [False, False, False]]),
        ... )
        >>> head.with_state(context).mask.sum(-1)
        tensor([6, 5])

    Source:
        Qwen-VLA, arXiv 2605.30280, section 5.2.4 and table 12, "into DiT": no gain over no state there. The paper does
        not say how the vector enters; one token of a two-layer network is ours.
    """

    def __init__(self, head: nn.Module, *, state_channels: int = 64) -> None:
        super().__init__()
        if state_channels < 1:
            raise SettingError(f"state_channels must be at least 1, got {state_channels}. Use 64 for any robot.")
        self.head = head
        self.state_channels = state_channels
        inside: Any = head
        self.channels, self.context_width = int(inside.channels), int(inside.context_width)
        self.token = nn.Sequential(
            nn.Linear(state_channels, self.context_width),
            nn.SiLU(),
            nn.Linear(self.context_width, self.context_width),
        )

    def with_state(self, context: Context) -> Context:
        """Append the state's token to a context.

        Args:
            context: Output of a backbone, with normalised `state` and `state_mask`.

        Returns:
            The context with one token more, and without the state.

        Raises:
            DataError: If the context has no state.
            ShapeError: If the state or the context has another width than this head, or parts differ in their samples.
            DtypeError: If states are not floating point, or a mask is not bool.
        """
        check_context(context, self.context_width)
        if context.state is None or context.state_mask is None:
            raise DataError(
                "context.state and context.state_mask must be given to this head, got none. "
                "Give the normalised state of each robot, or take StateTokenHead away."
            )
        if context.state.shape[-1] != self.state_channels or context.state_mask.shape != context.state.shape:
            raise ShapeError(
                f"context.state and state_mask must have {self.state_channels} channels, got "
                f"{tuple(context.state.shape)} and {tuple(context.state_mask.shape)}. Pad the states."
            )
        if not context.state.is_floating_point() or context.state_mask.dtype != torch.bool:
            raise DtypeError(
                f"context.state and state_mask must be floating point and bool, got {context.state.dtype} and "
                f"{context.state_mask.dtype}. Take both from StateScaler."
            )
        state = torch.where(context.state_mask, context.state, 0).to(next(self.token.parameters()).dtype)
        token = self.token(state).to(context.hidden.dtype)
        following = next_position(context.position_ids, context.mask)
        return replace(
            context,
            hidden=torch.cat([context.hidden, token[:, None]], 1),
            mask=torch.cat([context.mask, context.state_mask.any(-1, keepdim=True)], 1),
            position_ids=torch.cat([context.position_ids, following.expand(3, -1)[..., None]], -1),
            state=None,
            state_mask=None,
        )

    def condition(self, context: Context) -> Any:  # noqa: ANN401 (private to the head inside)
        """Compute once what depends on the context alone; `forward` takes the result in place of the context.

        Args:
            context: Output of a backbone, with state.

        Returns:
            What the head inside remembers of the context and the state.

        Raises:
            DataError: If the context has no state.
            ShapeError: If a width does not fit.
        """
        remember: Any = self.head.condition
        return remember(self.with_state(context))

    def forward(
        self,
        noisy_actions: Float[Tensor, "batch_draw horizon channel"],
        time: Float[Tensor, " batch_draw"] | Float[Tensor, "batch_draw horizon"],
        context: Any,  # noqa: ANN401 (a Context, or what condition returned)
        mask: Bool[Tensor, "batch_draw horizon channel"],
    ) -> Float[Tensor, "batch_draw horizon channel"]:
        """Predict the velocity `noise - action`.

        Args:
            noisy_actions: Points of the path; padding may hold anything.
            time: Flow time of each chunk or of each of its steps, 0 = action, 1 = noise.
            context: What the backbone knows with the state, or the result of `condition` on it.
            mask: True where an action entry is real.

        Returns:
            Velocity of the head inside.

        Raises:
            DataError: If the context has no state.
            ShapeError: If a width does not fit.
        """
        conditioned = self.with_state(context) if isinstance(context, Context) else context
        velocity: Tensor = self.head(noisy_actions, time, conditioned, mask)
        return velocity


def state_channels(head: nn.Module) -> int | None:
    """Padded width of the states that a head reads.

    Args:
        head: A head, which may be or hold a `StateTokenHead`.

    Returns:
        `state_channels` of the outermost module that has it; None where the head reads no state.

    Examples:
        >>> from vla_kit.heads import DiTHead
        >>> head = DiTHead(context_width=6, channels=4, width=16, depth=1, num_heads=2, mlp_hidden=32)
        >>> state_channels(StateTokenHead(head, state_channels=3)), state_channels(head)
        (3, None)
    """
    widths: list[Any] = [module.state_channels for module in head.modules() if hasattr(module, "state_channels")]
    return int(widths[0]) if widths else None
