"""Backbone inputs to native actions: the one path from context to robot, for validation, serving and evaluation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from vla_kit.actions import MaskedActions, QuantileNormalizer
from vla_kit.errors import ShapeError
from vla_kit.heads import sample_actions
from vla_kit.protocols import Backbone, Context, VelocityField

__all__ = ["Inpainting", "Solver", "draw_noise", "predict_actions", "read_context"]


@runtime_checkable
class Solver(Protocol):
    """Carries noise at time 1 to an action at time 0 along a velocity field: `Euler`, `Heun` or your own.

    The types of `noise` and of the result are `Float[Tensor, "batch ..."]`. They stay loose here because a command
    line compares annotations when it looks for classes that satisfy the protocol, and no two jaxtyping annotations
    are equal.
    """

    def __call__(self, field: Callable[[Tensor, Tensor], Tensor], noise: Any) -> Any:  # noqa: ANN401
        """Integrate `field(noisy, time[batch]) -> velocity`."""
        ...


@runtime_checkable
class Inpainting(Protocol):
    """Turns a solver into one that knows the beginning of the chunk: `GuidedPrefix`, `HardPrefix`, `CleanPrefix`."""

    def __call__(self, solver: Solver, *, known: Any, mask: Any, delay: Any) -> Solver:  # noqa: ANN401 (as in Solver)
        """Solver for chunks that hold `known` where `mask` is True, and whose first `delay` steps are carried out."""
        ...


def read_context(
    inputs: Mapping[str, Tensor],
    embodiments: Sequence[str],
    *,
    backbone: Callable[[Mapping[str, Tensor]], Context],
    state: MaskedActions | None = None,
) -> Context:
    """Run the backbone, and add to its context what a head may ask for besides: the robots and their states.

    Args:
        inputs: What `Backbone.prepare` made, on the device of the model.
        embodiments: Robot of each sample.
        backbone: Gives the context.
        state: What `StateScaler` made of the states, on the device of the model; None for a model that reads none.

    Returns:
        The context, for training and prediction alike.
    """
    known = replace(backbone(inputs), embodiments=tuple(embodiments))
    return known if state is None else replace(known, state=state.values[:, 0], state_mask=state.mask[:, 0])


def predict_actions(
    inputs: Mapping[str, Tensor],
    mask: Bool[Tensor, "batch horizon channel"],
    embodiments: Sequence[str],
    *,
    backbone: Backbone,
    head: VelocityField,
    normalizer: QuantileNormalizer,
    solver: Solver,
    state: MaskedActions | None = None,
    noise: Float[Tensor, "batch horizon channel"] | None = None,
    generator: Generator | None = None,
    temperature: float = 1.0,
) -> MaskedActions:
    """Draw native actions for a batch of prepared observations.

    Args:
        inputs: What `Backbone.prepare` made, on the device of the model.
        mask: True where an action entry is wanted, on the device of the model.
        embodiments: Robot of each sample.
        backbone: Gives the context.
        head: Gives the velocity.
        normalizer: Undoes the scaling.
        solver: Integrates the velocity.
        state: What `StateScaler` made of the states, on the device of the model; None for a model that reads none.
        noise: Start of the integration, standard normal; drawn from `generator` where None.
        generator: Source of the noise, on the device of `mask`.
        temperature: Factor on the noise, at least 0.

    Returns:
        Native actions with `mask`; exactly 0 where it is False.

    Raises:
        MissingStatisticsError: If an embodiment has no statistics.
        ShapeError: If `embodiments` does not name every sample, or shapes differ.

    Source:
        Qwen-VLA, arXiv 2605.30280, section 2.5 and equation 5.
    """
    context = read_context(inputs, embodiments, backbone=backbone, state=state)
    values = sample_actions(
        head, context, mask, solver=solver, generator=generator, noise=noise, temperature=temperature
    )
    return normalizer.denormalize(MaskedActions(values, mask), embodiments)


def draw_noise(
    mask: Bool[Tensor, "batch horizon channel"],
    generators: Sequence[Generator],
) -> Float[Tensor, "batch horizon channel"]:
    """Draw standard normal noise with a generator for each sample, so that neighbours in a batch do not matter.

    A sample draws for its own real entries only: the width of the batch does not matter either.

    Args:
        mask: True where noise is wanted; a block of leading steps and channels per sample.
        generators: One CPU generator per sample.

    Returns:
        Noise, 0 where `mask` is False, on the device of `mask`.

    Raises:
        ShapeError: If there are more or fewer generators than samples.

    Examples:
        >>> mask = torch.ones(2, 1, 2, dtype=torch.bool)
        >>> both = draw_noise(mask, [torch.Generator().manual_seed(seed) for seed in (0, 1)])
        >>> torch.equal(both[1:], draw_noise(mask[1:], [torch.Generator().manual_seed(1)]))
        True
    """
    if len(generators) != len(mask):
        raise ShapeError(
            f"generator must hold one generator per sample ({len(mask)}), got {len(generators)}. Give one."
        )
    noise = torch.zeros(mask.shape)
    for row, wanted, generator in zip(noise, mask.cpu(), generators, strict=True):
        row[wanted] = torch.randn(int(wanted.sum()), generator=generator)
    return noise.to(mask.device)
