"""The sampler with learned noise: what differs from `StochasticEuler`, and that the rest does not."""

import math

import pytest
import torch
from gaussian_flow import at, everywhere

from vla_kit.errors import SettingError, ShapeError
from vla_kit.flow import Euler, LearnedNoiseEuler, StochasticPath


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noises(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(9), dtype=torch.double)


def curved(noisy, time):
    """Velocity and deviation that both depend on the point and the time."""
    span = time.view(-1, 1, 1)
    return torch.sin(2 * noisy) * span + noisy / 3, 0.1 + 0.05 * span + 0.02 * noisy.square().clamp(max=4)


def ragged() -> torch.Tensor:
    mask = torch.zeros(2, 4, 3, dtype=torch.bool)
    mask[0, :, :2] = True
    mask[1, :2] = True
    return mask


def test_a_step_by_hand():
    """Velocity 1 at 2, step 1/4: mean 1.75; one deviation of 0.2 away the density is exp(-1/2) / (0.2 sqrt(2 pi))."""

    def field(noisy, time):
        return torch.ones_like(noisy), torch.full_like(noisy, 0.2)

    law = LearnedNoiseEuler(steps=4).transitions(
        field, at(torch.tensor([2.0]), torch.tensor([1.95]), torch.tensor([2])), everywhere(1)
    )
    assert law.mean.item() == 1.75
    assert law.std.item() == pytest.approx(0.2)
    expected = math.exp(-0.5) / (0.2 * math.sqrt(2 * math.pi))
    assert law.log_prob(torch.full((1, 1, 1, 1), 1.95)).exp().item() == pytest.approx(expected, rel=1e-5)
    assert law.entropy().item() == pytest.approx(0.5 * math.log(2 * math.pi * math.e * 0.04), abs=1e-6)


@pytest.mark.parametrize("number", range(3))
def test_the_density_of_a_step_integrates_to_one_and_has_its_moments(number):
    grid = torch.linspace(-3, 4, 7001, dtype=torch.double)
    path = at(torch.full_like(grid, 0.6), grid, torch.full((len(grid),), number))
    density = LearnedNoiseEuler(steps=3).log_prob(curved, path, everywhere(len(grid))).flatten().exp()
    time = torch.tensor([1 - number / 3], dtype=torch.double)
    velocity, std = (part.item() for part in curved(torch.full((1, 1, 1), 0.6, dtype=torch.double), time))
    mean = 0.6 - velocity / 3
    assert torch.trapezoid(density, grid).item() == pytest.approx(1, abs=1e-9)
    assert torch.trapezoid(density * grid, grid).item() == pytest.approx(mean, abs=1e-7)
    assert torch.trapezoid(density * (grid - mean) ** 2, grid).item() == pytest.approx(std**2, abs=1e-7)


def test_sampled_steps_follow_their_law():
    count, sampler = 10_000, LearnedNoiseEuler(steps=3)
    path = sampler.sample(curved, noises(count, 1, 1), everywhere(count), generator=generator())
    assert path.step[0].tolist() == [0, 1, 2]
    assert torch.equal(path.before[:, 1:], path.after[:, :-1])
    assert torch.equal(path.after[:, -1], path.actions)
    law = sampler.transitions(curved, path, everywhere(count))
    scaled = ((path.after - law.mean) / law.std).flatten(1)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(3).double(), atol=4 / math.sqrt(count), rtol=0)
    torch.testing.assert_close(scaled.T.cov(), torch.eye(3).double(), atol=4 * math.sqrt(2 / count), rtol=0)


def test_the_mean_is_eulers_step():
    def quiet(noisy, time):
        return curved(noisy, time)[0], torch.full_like(noisy, 1e-9)

    noise, mask = noises(2, 4, 3), torch.ones(2, 4, 3, dtype=torch.bool)
    actions = LearnedNoiseEuler(steps=5).sample(quiet, noise, mask).actions
    plain = Euler(steps=5)(lambda noisy, time: curved(noisy, time)[0], noise)
    torch.testing.assert_close(actions, plain, atol=1e-7, rtol=0)


@pytest.mark.parametrize("stochastic_steps", ["one", "all"])
def test_ratios_are_one_at_equal_weights(stochastic_steps):
    sampler, mask = LearnedNoiseEuler(steps=4, stochastic_steps=stochastic_steps), ragged()
    path = sampler.sample(curved, noises(2, 4, 3), mask, generator=generator())
    assert path.log_prob.shape == (2, 4 if stochastic_steps == "all" else 1)
    assert torch.equal(sampler.log_prob(curved, path, mask), path.log_prob)
    assert sampler.kl(curved, curved, path, mask).abs().max() == 0


def test_kl_of_different_deviations_is_the_closed_form():
    def other(noisy, time):
        velocity, std = curved(noisy, time)
        return velocity + 0.2, 1.5 * std

    sampler, mask = LearnedNoiseEuler(steps=4), ragged()
    path = sampler.sample(curved, noises(2, 4, 3), mask, generator=generator())
    laws = [sampler.transitions(field, path, mask) for field in (curved, other)]
    ours, theirs = (torch.distributions.Normal(law.mean, law.std, validate_args=False) for law in laws)
    each = torch.where(mask[:, None], torch.distributions.kl_divergence(ours, theirs), 0)
    torch.testing.assert_close(sampler.kl(curved, other, path, mask), each.sum((-2, -1)))
    entropy = torch.where(mask[:, None], ours.entropy(), 0).sum((-2, -1))
    torch.testing.assert_close(laws[0].entropy(), entropy)


def test_gradients_reach_velocity_and_noise_and_agree_with_finite_differences():
    sampler, mask = LearnedNoiseEuler(steps=3), ragged()
    path = sampler.sample(curved, noises(2, 4, 3), mask, generator=generator())
    factors = torch.tensor([1.1, 0.8], dtype=torch.double, requires_grad=True)

    def values(factors):
        def field(noisy, time):
            velocity, std = curved(noisy, time)
            return factors[0] * velocity, factors[1] * std

        law = sampler.transitions(field, path, mask)
        return law.log_prob(path.after), law.entropy(), sampler.kl(field, curved, path, mask)

    assert torch.autograd.gradcheck(values, factors)


def test_padding_changes_nothing_whatever_it_holds():
    sampler, mask = LearnedNoiseEuler(steps=3), ragged()
    weight = torch.tensor(0.7, dtype=torch.double, requires_grad=True)
    results = []
    for poison in (0.0, math.nan, math.inf):

        def field(noisy, time, poison=poison):
            assert noisy[~mask].eq(0).all()
            return tuple(torch.where(mask, weight * part, poison) for part in curved(noisy, time))

        with torch.no_grad():
            path = sampler.sample(field, torch.where(mask, noises(2, 4, 3), poison), mask, generator=generator())
        dirty = StochasticPath(
            actions=path.actions,
            before=torch.where(mask[:, None], path.before, poison),
            after=torch.where(mask[:, None], path.after, poison),
            step=path.step,
            log_prob=path.log_prob,
        )
        law = sampler.transitions(field, dirty, mask)
        assert law.mean.detach().masked_select(~mask[:, None]).eq(0).all()
        parts = [law.log_prob(dirty.after), law.entropy(), sampler.kl(field, curved, dirty, mask)]
        (gradient,) = torch.autograd.grad(sum(part.sum() for part in parts), weight)
        results.append([path.actions, path.log_prob, *parts, gradient])
        assert all(part.isfinite().all() for part in results[-1])
    for other in results[1:]:
        assert all(torch.equal(clean, poisoned) for clean, poisoned in zip(results[0], other, strict=True))


@pytest.mark.usefixtures("shape_hook_off")
def test_settings_and_shapes_are_checked():
    with pytest.raises(SettingError, match="steps must be at least 1, got 0"):
        LearnedNoiseEuler(steps=0)
    with pytest.raises(SettingError, match="stochastic_steps must be 'one' or 'all', got 'two'"):
        LearnedNoiseEuler(stochastic_steps="two")
    with pytest.raises(ShapeError, match="noise must have the shape of mask"):
        LearnedNoiseEuler().sample(curved, noises(2, 4, 2), ragged())
    assert repr(LearnedNoiseEuler()) == "LearnedNoiseEuler(steps=4, stochastic_steps='all')"
