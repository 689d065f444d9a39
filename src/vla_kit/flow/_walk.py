"""The walk that both stochastic samplers take: Euler steps of equal length, some of them noisy."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from vla_kit.errors import SettingError, ShapeError
from vla_kit.flow.stochastic_path import StochasticPath
from vla_kit.flow.transitions import GaussianTransitions

__all__: list[str] = []

StochasticSteps = Literal["one", "all"]


class Step(NamedTuple):
    """One Euler step from a point: where it leads without noise, and the normal law of where it leads with noise."""

    plain: Float[Tensor, "batch horizon channel"]
    mean: Float[Tensor, "batch horizon channel"]
    std: Tensor  # of the shape of the mean, or [batch 1 1]


Law = Callable[[Tensor, Tensor], Step]
"""`(noisy, step[batch]) -> Step`"""


def check_settings(steps: int, stochastic_steps: str) -> None:
    """Refuse settings that no walk has."""
    if steps < 1:
        raise SettingError(f"steps must be at least 1, got {steps}. Use 4 to 10 for action chunks.")
    if stochastic_steps not in ("one", "all"):
        raise SettingError(f"stochastic_steps must be 'one' or 'all', got {stochastic_steps!r}. 'one' is the paper's.")


def walk(
    law: Law,
    noise: Float[Tensor, "batch horizon channel"],
    mask: Bool[Tensor, "batch horizon channel"],
    *,
    steps: int,
    stochastic_steps: StochasticSteps,
    generator: Generator | None,
) -> StochasticPath:
    """Carry noise from time 1 to time 0 and remember the noisy steps."""
    if noise.shape != mask.shape:
        raise ShapeError(
            f"noise must have the shape of mask {tuple(mask.shape)}, got {tuple(noise.shape)}. "
            "Draw one normal value per entry."
        )
    noisy = torch.where(mask, noise, 0).to(torch.promote_types(noise.dtype, torch.float32))
    batch, device = noisy.shape[0], noisy.device
    if stochastic_steps == "all":
        step = torch.arange(steps, device=device).expand(batch, steps)
    else:
        step = torch.randint(steps, (batch, 1), generator=generator, device=device)
    shocks = torch.randn(
        (*step.shape, *noisy.shape[1:]), generator=generator, device=device, dtype=noisy.dtype
    )  # [batch transition horizon channel]
    before = after = mean = std = torch.zeros_like(shocks)
    for number in range(steps):
        here = law(noisy, torch.full((batch,), number, device=device))
        stored = (step == number)[..., None, None]
        shocked = here.mean + here.std * torch.where(stored, shocks, 0).sum(1)
        reached = torch.where(mask, torch.where(stored.any(1), shocked, here.plain), 0)
        before = torch.where(stored, noisy[:, None], before)
        after = torch.where(stored, reached[:, None], after)
        mean = torch.where(stored, here.mean[:, None], mean)
        std = torch.where(stored, here.std[:, None], std)
        noisy = reached
    log_prob = GaussianTransitions(mean=mean, std=std, mask=mask).log_prob(after)
    return StochasticPath(actions=noisy, before=before, after=after, step=step, log_prob=log_prob)


def transitions(
    law: Law, path: StochasticPath, mask: Bool[Tensor, "batch horizon channel"], *, steps: int
) -> GaussianTransitions:
    """Law of each stored step of a path; one evaluation of the law per transition."""
    if bool((path.step >= steps).any()):
        raise SettingError(
            f"steps must be those of the sampler that made the path, got {steps} and a path with step "
            f"{int(path.step.max())}. Use the same sampler."
        )
    means, stds = [], []
    for begin, number in zip(path.before.unbind(1), path.step.unbind(1), strict=True):
        here = law(torch.where(mask, begin, 0), number)
        means.append(here.mean)
        stds.append(here.std.expand_as(here.mean))
    return GaussianTransitions(mean=torch.stack(means, 1), std=torch.stack(stds, 1), mask=mask)


def times(step: Int[Tensor, " batch"], *, steps: int, like: Tensor) -> Float[Tensor, " batch"]:
    """Time at which each step begins, rounded once, as `Euler` rounds it."""
    return torch.tensor([1 - number / steps for number in range(steps)], dtype=like.dtype, device=like.device)[step]
