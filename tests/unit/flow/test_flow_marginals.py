"""Points of the stochastic sampler have the law of those of the deterministic one: exactly propagated, and sampled."""

import math

import pytest
import torch
from gaussian_flow import MEAN, STD, everywhere, marginal, moments, noisy_maps, plain_maps, velocity

from vla_kit.flow import StochasticEuler


def noises(count: int) -> torch.Tensor:
    return torch.randn(count, 1, 1, generator=torch.Generator().manual_seed(9), dtype=torch.double)


def distance(found: list[tuple[float, float]]) -> float:
    """Largest error of mean and variance over all times, against the exact marginals of the ODE."""
    steps = len(found) - 1
    return max(
        abs(have - exact)
        for number, pair in enumerate(found)
        for have, exact in zip(pair, marginal(1 - number / steps), strict=True)
    )


def one_noisy(sampler: StochasticEuler) -> list[list[tuple[float, float]]]:
    """Moments at every time, for each step that may be the noisy one."""
    noisy, plain = noisy_maps(sampler), plain_maps(sampler.steps)
    return [moments([*plain[:row], noisy[row], *plain[row + 1 :]]) for row in range(sampler.steps)]


def mixed(cases: list[list[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Moments at every time when each case is equally likely."""
    found = []
    for pairs in zip(*cases, strict=True):
        mean = sum(own for own, _ in pairs) / len(pairs)
        found.append((mean, sum(variance + (own - mean) ** 2 for own, variance in pairs) / len(pairs)))
    return found


def test_one_noisy_step_keeps_the_marginals_at_every_time():
    """Mean and variance go to those of the ODE with the first order of Euler's steps: drawn, and at a fixed time."""
    coarse, fine = (one_noisy(StochasticEuler(steps=steps)) for steps in (64, 256))
    assert distance(moments(plain_maps(256))) < 0.0015
    assert distance(mixed(fine)) < 0.0015
    assert distance(mixed(coarse)) / distance(mixed(fine)) == pytest.approx(4, rel=0.1)
    at_quarter, at_half = ([distance(cases[len(cases) // part]) for cases in (coarse, fine)] for part in (4, 2))
    for first, second in (at_quarter, at_half):
        assert first / second == pytest.approx(4, rel=0.1)


def test_a_noisy_first_step_widens_the_points_by_a_quarter_of_the_fourth_power():
    """At time 1 nothing shrinks with the steps: variance (1 - level^2 / 2)^2 + level^2 = 1 + level^4 / 4."""

    def standard(noisy, time):
        return noisy * (2 * time - 1).view(-1, 1, 1) / ((1 - time) ** 2 + time**2).view(-1, 1, 1)

    for level in (0.25, 0.5, 1.0):
        slope, shift, std = noisy_maps(StochasticEuler(steps=10_000, noise_level=level), standard)[0]
        assert shift == 0
        assert slope**2 + std**2 == pytest.approx(1 + level**4 / 4, abs=5e-4)


def test_all_noisy_steps_keep_the_marginals_in_the_limit():
    """The excess of the first steps dies out like `steps ** -level^2`: fast for level 1, slowly for 0.5."""

    def excess(steps: int, level: float) -> float:
        mean, variance = moments(noisy_maps(StochasticEuler(steps=steps, noise_level=level)))[-1]
        assert mean == pytest.approx(MEAN, abs=1e-9)
        return variance - STD**2

    assert abs(excess(4096, 1.0)) < 1e-5
    assert abs(excess(1024, 1.0) / excess(4096, 1.0)) > 4
    assert abs(excess(4096, 0.5)) < 4e-4
    assert excess(16_384, 0.5) / excess(65_536, 0.5) == pytest.approx(4**0.25, rel=0.05)


def test_without_the_drift_the_marginals_would_be_wrong():
    """The check can fail: the noise of the steps alone, around the steps of Euler."""
    noisy, plain = noisy_maps(StochasticEuler(steps=256)), plain_maps(256)
    maps = [(*euler[:2], shock[2]) for euler, shock in zip(plain, noisy, strict=True)]
    assert distance(moments(maps)) > 0.1


@pytest.mark.parametrize("stochastic_steps", ["one", "all"])
def test_samples_have_the_exact_moments_of_the_maps(stochastic_steps):
    """Four steps, 100,000 chunks: mean and variance against exact propagation, no limit taken."""
    count, sampler = 100_000, StochasticEuler(steps=4, stochastic_steps=stochastic_steps)
    path = sampler.sample(velocity, noises(count), everywhere(count), generator=torch.Generator().manual_seed(0))
    cases = [moments(noisy_maps(sampler))] if stochastic_steps == "all" else one_noisy(sampler)
    mean, variance = mixed(cases)[-1]
    error = math.sqrt(variance / count)
    assert path.actions.mean().item() == pytest.approx(mean, abs=4 * error)
    assert path.actions.var().item() == pytest.approx(variance, rel=4 * math.sqrt(3 / count))


def test_many_steps_sample_the_data():
    count = 20_000
    sampler = StochasticEuler(steps=64, noise_level=1.0, stochastic_steps="all")
    actions = sampler.sample(
        velocity, noises(count), everywhere(count), generator=torch.Generator().manual_seed(0)
    ).actions
    assert actions.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert actions.std().item() == pytest.approx(STD, abs=0.01)
