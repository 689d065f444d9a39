"""A policy that explores: draws chunks by steps of known density, and remembers how."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from vla_kit.actions import MaskedActions
from vla_kit.errors import NonFiniteError
from vla_kit.flow import StochasticPath
from vla_kit.policy import Policy, PolicyObservation
from vla_kit.protocols import Context
from vla_kit.training.drawn_chunk import DrawnChunk, split_context

__all__ = ["BROKEN", "Actor", "StochasticSampler", "move_context", "velocity"]

_AT_ONCE: Final = 64
BROKEN: Final = "broken_batch.pt"
"""File in the folder of a run that keeps what gave inf or NaN."""


@runtime_checkable
class StochasticSampler(Protocol):
    """Draws chunks by steps of known density: `StochasticEuler`, `LearnedNoiseEuler`.

    Types stay loose for the command line, as in `vla_kit.policy.Solver`.
    """

    def sample(self, field: Any, noise: Any, mask: Any, *, generator: Any = None) -> Any:  # noqa: ANN401 (as in Solver)
        """Draw chunks from a field, and remember the noisy steps."""
        ...

    def transitions(self, field: Any, path: Any, mask: Any) -> Any:  # noqa: ANN401 (as in Solver)
        """Law of the remembered steps under another field."""
        ...


class Actor:
    """The policy of a rollout.

    Args:
        policy: Reads observations; its parts are shared.
        sampler: Draws chunks.
        value_head: Expects returns.
        noise_head: Says how noisy steps are, where the sampler asks.
        temperature: Factor on the first noise of a chunk.
        keep_contexts: Whether decisions keep what the backbone made of their observations.
        generator: Of all noise, on the policy's device.
        on_broken: Given what led to inf or NaN, before the error is raised.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        sampler: StochasticSampler,
        value_head: nn.Module,
        noise_head: nn.Module | None,
        temperature: float,
        keep_contexts: bool,
        generator: torch.Generator,
        on_broken: Callable[[dict[str, Any]], None],
    ) -> None:
        self.policy = policy
        self.sampler = sampler
        self.value_head = value_head
        self.noise_head = noise_head
        self.temperature = temperature
        self.keep_contexts = keep_contexts
        self.generator = generator
        self._on_broken = on_broken

    @torch.no_grad()
    def decide(self, observations: Sequence[PolicyObservation]) -> list[DrawnChunk]:
        """Draw a chunk for each observation.

        Args:
            observations: At least one.

        Returns:
            A decision per observation, on the CPU.

        Raises:
            NonFiniteError: If an action or a value is inf or NaN.
        """
        policy, names = self.policy, [one.embodiment for one in observations]
        mask = policy.mask(names).to(policy.device)
        context = policy.read(observations)
        noise = torch.randn(mask.shape, generator=self.generator, device=mask.device)
        path: StochasticPath = self.sampler.sample(
            velocity(policy.head, context, mask, self.noise_head),
            self.temperature * noise,
            mask,
            generator=self.generator,
        )
        values = self.value_head(context).float()
        if not bool(path.actions.isfinite().all() and values.isfinite().all()):
            self._on_broken(
                {
                    "instructions": [one.instruction for one in observations],
                    "views": [
                        {tag: torch.as_tensor(picture) for tag, picture in one.views.items()} for one in observations
                    ],
                    "actions": path.actions,
                    "values": values,
                }
            )
            raise NonFiniteError(
                f"actions and values must be finite, got inf or NaN for {len(observations)} observations. They lie in "
                f"{BROKEN} of the run's folder; go on from the last checkpoint with lower learning rates."
            )
        native = policy.normalizer.denormalize(MaskedActions(path.actions, mask), names).cut()
        path, contexts = path.to("cpu"), split_context(move_context(context, "cpu")) if self.keep_contexts else None
        return [
            DrawnChunk(
                actions=native[row].float().cpu().numpy(),
                path=path[row : row + 1],
                mask=mask[row].cpu(),
                context=None if contexts is None else contexts[row],
                value=float(values[row]),
            )
            for row in range(len(observations))
        ]

    @torch.no_grad()
    def values(self, observations: Sequence[PolicyObservation]) -> list[float]:
        """What the value head expects of each observation."""
        found: list[float] = []
        for first in range(0, len(observations), _AT_ONCE):
            found += self.value_head(self.policy.read(observations[first : first + _AT_ONCE])).float().tolist()
        return found


def velocity(
    head: nn.Module, context: Context, mask: Tensor, noise_head: nn.Module | None = None
) -> Callable[[Tensor, Tensor], Any]:
    """A head as a field of one context, on which it is conditioned once.

    Args:
        head: Satisfies `VelocityField`.
        context: Of a batch.
        mask: True where an action entry is real.
        noise_head: Says how noisy steps are, for `LearnedNoiseEuler`.

    Returns:
        `field(noisy, time) -> velocity`, or `-> (velocity, standard deviation)` with a `noise_head`.
    """
    condition: Any = getattr(head, "condition", None)
    known = context if condition is None else condition(context)
    if noise_head is None:
        return lambda noisy, time: head(noisy, time, known, mask)
    return lambda noisy, time: (head(noisy, time, known, mask), noise_head(noisy, time, context, mask))


def move_context(context: Context, device: torch.device | str) -> Context:
    """A context on another device, without the logits.

    Args:
        context: Of a batch.
        device: Where to.
    """
    return replace(
        context,
        hidden=context.hidden.to(device),
        mask=context.mask.to(device),
        position_ids=context.position_ids.to(device),
        logits=None,
        state=None if context.state is None else context.state.to(device),
        state_mask=None if context.state_mask is None else context.state_mask.to(device),
    )
