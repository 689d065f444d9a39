"""A policy, or its head alone, for one robot as a module of tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

from vla_kit.actions import MaskedActions, QuantileNormalizer
from vla_kit.export.contexts import ContextGraph
from vla_kit.heads import ActionProjection, sample_actions
from vla_kit.heads.state_token import state_channels
from vla_kit.policy import Policy
from vla_kit.protocols import Context

__all__ = ["HeadGraph", "PolicyGraph"]

_MOST_TOKENS: Final = 65_536


class HeadGraph(nn.Module):
    """From a context and noise to native actions: head, solver and normaliser for one robot.

    The steps of the solver are written out one after the other. Horizon and channels are those of the robot.

    Args:
        policy: Its parts are shared.
        embodiment: Robot.

    Raises:
        EmbodimentError: If the prompter does not know the robot.
    """

    axes: Mapping[str, tuple[str, ...]]

    def __init__(self, policy: Policy, *, embodiment: str) -> None:
        super().__init__()
        spec = policy.prompter.spec(embodiment)
        self.head = policy.head
        self.normalizer = policy.normalizer
        self.embodiment = embodiment
        self.horizon, self.size = spec.chunk_size, spec.action_space.size
        width = state_channels(policy.head)
        reads = width is not None and spec.state_space is not None
        self.state_normalizer = policy.state_normalizer if reads else None
        self._state_channels, self._state_size = width, spec.state_space.size if reads and spec.state_space else 0
        self._channels, self._solver, self._temperature = policy.channels, policy.solver, policy.temperature
        self._names_robots = any(isinstance(part, ActionProjection) for part in policy.head.modules())
        self.longest: Mapping[str, int] = {"token": _MOST_TOKENS}
        self.fixed: Mapping[str, str] = {}
        self.axes = {
            "hidden": ("batch", "token", "width"),
            "mask": ("batch", "token"),
            "position_ids": ("3", "batch", "token"),
            **self.own_axes,
        }

    @property
    def own_axes(self) -> dict[str, tuple[str, ...]]:
        """Axes of the inputs beside the context."""
        state = {"state": ("batch", "state_size")} if self.state_normalizer is not None else {}
        return {**state, "noise": ("batch", "horizon", "size")}

    def forward(
        self,
        *,
        hidden: Float[Tensor, "batch token width"],
        mask: Bool[Tensor, "batch token"],
        position_ids: Int[Tensor, "3 batch token"],
        noise: Float[Tensor, "batch horizon size"],
        state: Float[Tensor, "batch state_size"] | None = None,
    ) -> Float[Tensor, "batch horizon size"]:
        """Carry noise to native actions."""
        given = {"hidden": hidden, "mask": mask, "position_ids": position_ids, "noise": noise}
        _check_batch(given if state is None else {**given, "state": state}, self.axes)
        return self.act(Context(hidden=hidden, mask=mask, position_ids=position_ids), noise, state)

    def act(
        self, context: Context, noise: Float[Tensor, "batch horizon size"], state: Tensor | None
    ) -> Float[Tensor, "batch horizon size"]:
        """Native actions for a context."""
        batch = noise.shape[0]
        if self._names_robots:
            context = replace(context, embodiments=(self.embodiment,) * int(batch))
        if self._state_channels is not None:
            context = self._with_state(context, state, batch)
        wanted = torch.zeros(self.horizon, self._channels, dtype=torch.bool, device=noise.device)
        wanted[:, : self.size] = True
        mask = wanted[None].expand(batch, -1, -1)
        start = pad(noise, (0, self._channels - self.size))
        actions = sample_actions(
            self.head, context, mask, solver=self._solver, noise=start, temperature=self._temperature
        )
        # Statistics are per channel: steps of all samples in one row ask for no name per sample.
        rows = MaskedActions(actions.flatten(0, 1)[None], mask.flatten(0, 1)[None])
        native: Tensor = self.normalizer.denormalize(rows, [self.embodiment]).values[0]
        chunks: Tensor = native.reshape(batch, self.horizon, -1)[..., : self.size].float()
        return chunks

    def _with_state(self, context: Context, state: Tensor | None, batch: int) -> Context:
        channels, device = self._state_channels or 0, context.hidden.device
        mask = torch.zeros(channels, dtype=torch.bool, device=device)
        mask[: self._state_size] = True
        if state is None or self.state_normalizer is None:  # a robot without a state: all padding
            values = torch.zeros(batch, channels, device=device)
        else:
            values = _scaled(pad(state, (0, channels - self._state_size)), mask, self.state_normalizer, self.embodiment)
        return replace(context, state=values, state_mask=mask[None].expand(batch, -1))


class PolicyGraph(nn.Module):
    """A whole policy for one robot: pictures, token ids and noise in, native actions out.

    Args:
        context: The backbone.
        head: The rest.
    """

    axes: Mapping[str, tuple[str, ...]]

    def __init__(self, context: ContextGraph, head: HeadGraph) -> None:
        super().__init__()
        self.context = context
        self.head = head
        self.axes = {**context.axes, **head.own_axes}
        self.longest, self.fixed = context.longest, context.fixed

    def forward(self, **inputs: Tensor) -> Float[Tensor, "batch horizon size"]:
        """Native actions.

        Args:
            **inputs: As named by `axes`.
        """
        _check_batch(inputs, self.axes)
        seen = {name: tensor for name, tensor in inputs.items() if name not in ("noise", "state")}
        return self.head.act(self.context(seen), inputs["noise"], inputs.get("state"))


def _check_batch(inputs: Mapping[str, Tensor], axes: Mapping[str, Sequence[str]]) -> None:
    """Refuse inputs of several batches; a trace takes their batch axes for one and the same from here on."""
    batch = inputs["noise"].shape[0]
    for name, tensor in inputs.items():
        torch._check(tensor.shape[axes[name].index("batch")] == batch)


def _scaled(
    state: Float[Tensor, "batch channel"],
    mask: Bool[Tensor, " channel"],
    normalizer: QuantileNormalizer,
    embodiment: str,
) -> Float[Tensor, "batch channel"]:
    rows = MaskedActions(state[None], mask[None].expand(state.shape[0], -1)[None])
    return normalizer.normalize(rows, [embodiment]).values[0]
