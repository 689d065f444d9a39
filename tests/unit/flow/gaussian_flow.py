"""Flow matching of one-dimensional normal data: the exact velocity field, and the exact law of samplers along it."""

import torch

from vla_kit.flow import StochasticPath

MEAN, STD = 0.7, 0.3


def velocity(noisy: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """Expected `noise - action` at a point of the path, for actions from N(MEAN, STD^2): linear regression."""
    time = time.view(-1, *[1] * (noisy.ndim - 1))
    variance = (1 - time) ** 2 * STD**2 + time**2
    covariance = time - (1 - time) * STD**2
    return -MEAN + covariance / variance * (noisy - (1 - time) * MEAN)


def marginal(time: float) -> tuple[float, float]:
    """Mean and variance of the points of the path at a time."""
    return (1 - time) * MEAN, (1 - time) ** 2 * STD**2 + time**2


def at(before: torch.Tensor, after: torch.Tensor, step: torch.Tensor) -> StochasticPath:
    """A path that holds one transition per row, from `before[row]` to `after[row]`, of one entry each."""
    return StochasticPath(
        actions=after.view(-1, 1, 1),
        before=before.view(-1, 1, 1, 1),
        after=after.view(-1, 1, 1, 1),
        step=step.view(-1, 1),
        log_prob=torch.zeros(len(step), 1, dtype=before.dtype),
    )


def everywhere(batch: int) -> torch.Tensor:
    return torch.ones(batch, 1, 1, dtype=torch.bool)


def noisy_maps(sampler, field=velocity) -> list[tuple[float, float, float]]:
    """Of each noisy step of a linear field: slope, intercept and standard deviation of `after` given `before`."""
    step = torch.arange(sampler.steps)
    zero = torch.zeros(sampler.steps, dtype=torch.double)
    low, high = (
        sampler.transitions(field, at(start, start, step), everywhere(sampler.steps)) for start in (zero, zero + 1)
    )
    intercept, slope = low.mean.flatten(), (high.mean - low.mean).flatten()
    return list(zip(slope.tolist(), intercept.tolist(), low.std.flatten().tolist(), strict=True))


def plain_maps(steps: int) -> list[tuple[float, float, float]]:
    """The same of Euler's steps."""
    time = 1 - torch.arange(steps, dtype=torch.double) / steps
    zero = torch.zeros(steps, 1, 1, dtype=torch.double)
    low, high = (start - velocity(start, time) / steps for start in (zero, zero + 1))
    return list(zip((high - low).flatten().tolist(), low.flatten().tolist(), [0.0] * steps, strict=True))


def moments(maps: list[tuple[float, float, float]]) -> list[tuple[float, float]]:
    """Mean and variance at the start and after each map, from N(0, 1) on: exact for normal laws and linear maps."""
    found = [(0.0, 1.0)]
    for slope, intercept, std in maps:
        mean, variance = found[-1]
        found.append((slope * mean + intercept, slope**2 * variance + std**2))
    return found
