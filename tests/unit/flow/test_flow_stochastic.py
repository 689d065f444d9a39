"""The stochastic Euler sampler against formulas by hand, quadrature, exact normal laws and finite differences."""

import copy
import math

import pytest
import torch
from gaussian_flow import at, everywhere, noisy_maps, velocity

from vla_kit.errors import SettingError, ShapeError
from vla_kit.flow import Euler, StochasticEuler, StochasticPath
from vla_kit.heads import AnchoredHead, DiTHead
from vla_kit.protocols import Context


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def curved(noisy, time):
    """A field without symmetry."""
    return torch.sin(2 * noisy) * time.view(-1, 1, 1) + noisy**2 / 3 - 0.4


def noises(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(9), dtype=torch.double)


def normal_log_density(value: torch.Tensor, mean: torch.Tensor | float, std: torch.Tensor | float) -> torch.Tensor:
    return torch.distributions.Normal(mean, std, validate_args=False).log_prob(value)


def section_6_2(point: float, answer: float, number: int, steps: int, level: float) -> tuple[float, float]:
    """Mean and deviation of a noisy step, as the published formula has it, with clean and noise written out."""
    delta = 1 / steps
    time = 1 - number * delta
    following = 1 - delta
    sigma = level * math.sqrt(time / (1 - (following if time == 1 else time)))
    clean, noise = point - answer * time, point + answer * (1 - time)
    mean = clean * (1 - (time - delta)) + noise * ((time - delta) - sigma**2 * delta / (2 * time))
    return mean, sigma * math.sqrt(delta)


@pytest.mark.parametrize(("steps", "level"), [(1, 0.5), (2, 0.5), (4, 0.5), (5, 1.3), (10, 0.1)])
def test_every_step_is_the_published_formula(steps, level):
    points, number = noises(steps), torch.arange(steps)
    law = StochasticEuler(steps=steps, noise_level=level).transitions(
        curved, at(points, points, number), everywhere(steps)
    )
    answers = curved(points.view(-1, 1, 1), 1 - number.double() / steps).flatten()
    expected = [section_6_2(points[row].item(), answers[row].item(), row, steps, level) for row in range(steps)]
    torch.testing.assert_close(law.mean.flatten(), torch.tensor([mean for mean, _ in expected], dtype=torch.double))
    torch.testing.assert_close(law.std.flatten(), torch.tensor([std for _, std in expected], dtype=torch.double))


def test_deviations_by_hand():
    """0.5 * sqrt(time / (1 - time)) * sqrt(1 / 4) at times 1 (over 1 - 3/4), 3/4, 1/2 and 1/4."""
    expected = [0.5, 0.25 * math.sqrt(3), 0.25, 0.25 / math.sqrt(3)]
    assert StochasticEuler(steps=4).deviations().tolist() == pytest.approx(expected)
    assert StochasticEuler(steps=4, noise_level=1.0).deviations()[0].item() == pytest.approx(1.0)


def test_a_step_by_hand():
    """Velocity 1 at 2, time 1/2 of four steps: plain 2 - 1/4; std 1/4; drift (1/16) / (2 * 1/2) * (2 + 1/2)."""
    law = StochasticEuler(steps=4).transitions(
        lambda noisy, time: torch.ones_like(noisy),
        at(torch.tensor([2.0]), torch.tensor([2.0]), torch.tensor([2])),
        everywhere(1),
    )
    assert law.mean.item() == 1.75 - 2.5 / 16
    assert law.std.item() == pytest.approx(0.25)
    # A standard normal density one deviation away, stretched by 4.
    log_prob = law.log_prob(law.mean + law.std)
    assert log_prob.item() == pytest.approx(-0.5 - 0.5 * math.log(2 * math.pi) + math.log(4), abs=1e-6)


@pytest.mark.parametrize("number", range(4))
def test_the_density_of_a_step_integrates_to_one_and_has_its_moments(number):
    sampler, grid = StochasticEuler(steps=4), torch.linspace(-8, 8, 8001, dtype=torch.double)
    path = at(torch.full_like(grid, 0.6), grid, torch.full((len(grid),), number))
    density = sampler.log_prob(curved, path, everywhere(len(grid))).flatten().exp()
    mean, std = section_6_2(0.6, curved(torch.tensor([[[0.6]]]).double(), torch.tensor([1 - number / 4])).item(),
                            number, 4, 0.5)  # fmt: skip
    assert torch.trapezoid(density, grid).item() == pytest.approx(1, abs=1e-9)
    assert torch.trapezoid(density * grid, grid).item() == pytest.approx(mean, abs=1e-6)
    assert torch.trapezoid(density * (grid - mean) ** 2, grid).item() == pytest.approx(std**2, abs=1e-6)


def chain_density(sampler, field, start: float, middle: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """Joint density [middle end] of both steps of a two-step chain, from the sampler's log-probabilities."""
    middles, ends = torch.meshgrid(middle, end, indexing="ij")
    count = middles.numel()
    path = StochasticPath(
        actions=ends.reshape(-1, 1, 1),
        before=torch.stack([torch.full_like(middles, start), middles], -1).reshape(count, 2, 1, 1),
        after=torch.stack([middles, ends], -1).reshape(count, 2, 1, 1),
        step=torch.arange(2).expand(count, 2),
        log_prob=torch.zeros(count, 2, dtype=torch.double),
    )
    return sampler.log_prob(field, path, everywhere(count)).sum(1).exp().view_as(middles)


def test_the_density_of_a_chain_integrates_to_the_known_law_of_its_actions():
    """Two steps along a linear field: the middle point is integrated out by quadrature, the answer is normal."""
    sampler = StochasticEuler(steps=2, stochastic_steps="all")
    middle, end = (torch.linspace(-4, 5, 601, dtype=torch.double) for _ in range(2))
    density = torch.trapezoid(chain_density(sampler, velocity, 1.5, middle, end), middle, dim=0)
    (slope_1, shift_1, std_1), (slope_2, shift_2, std_2) = noisy_maps(sampler)
    known = torch.distributions.Normal(
        slope_2 * (slope_1 * 1.5 + shift_1) + shift_2, math.hypot(slope_2 * std_1, std_2)
    )
    torch.testing.assert_close(density, known.log_prob(end).exp(), atol=1e-9, rtol=1e-6)
    assert torch.trapezoid(density, end).item() == pytest.approx(1, abs=1e-9)


def test_actions_follow_the_density_of_the_chain():
    """A field without closed answer: shares of 40,000 sampled actions against quadrature."""
    sampler, count = StochasticEuler(steps=2, stochastic_steps="all"), 40_000
    middle, end = torch.linspace(-4, 4, 401, dtype=torch.double), torch.linspace(-4, 4, 801, dtype=torch.double)
    density = torch.trapezoid(chain_density(sampler, curved, 0.8, middle, end), middle, dim=0)
    assert torch.trapezoid(density, end).item() == pytest.approx(1, abs=1e-6)
    start = torch.full((count, 1, 1), 0.8, dtype=torch.double)
    actions = sampler.sample(curved, start, everywhere(count), generator=generator()).actions.flatten()
    below = torch.cumulative_trapezoid(density, end)
    for edge in range(100, 800, 100):
        share = (actions < end[edge]).double().mean().item()
        assert share == pytest.approx(below[edge - 1].item(), abs=4 * 0.5 / math.sqrt(count))


def test_sampled_steps_follow_their_law():
    count = 20_000
    sampler, mask = StochasticEuler(steps=4), everywhere(count)
    path = sampler.sample(curved, noises(count, 1, 1), mask, generator=generator())
    law = sampler.transitions(curved, path, mask)
    scaled = ((path.after - law.mean) / law.std).flatten()
    assert scaled.mean().item() == pytest.approx(0, abs=4 / math.sqrt(count))
    assert scaled.var().item() == pytest.approx(1, abs=4 * math.sqrt(2 / count))
    level = torch.linspace(0.1, 0.9, 9, dtype=torch.double)
    torch.testing.assert_close(scaled.quantile(level), torch.special.ndtri(level), atol=0.05, rtol=0)
    shares = path.step.flatten().bincount(minlength=4) / count
    torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.015, rtol=0)


def ragged() -> torch.Tensor:
    """Two chunks of 4 x 3: one of 4 steps and 2 channels, one of 2 steps and 3 channels."""
    mask = torch.zeros(2, 4, 3, dtype=torch.bool)
    mask[0, :, :2] = True
    mask[1, :2] = True
    return mask


def test_other_steps_are_those_of_euler():
    sampler, noise = StochasticEuler(steps=5), noises(64, 4, 3)
    mask = torch.ones(64, 4, 3, dtype=torch.bool)
    path = sampler.sample(curved, noise, mask, generator=generator())
    assert path.step.unique().tolist() == [0, 1, 2, 3, 4]
    noisy = noise
    for number in range(5):
        chosen = path.step[:, 0] == number
        assert torch.equal(path.before[chosen, 0], noisy[chosen])
        plain = noisy - curved(noisy, torch.full((64,), 1 - number / 5, dtype=torch.double)) / 5
        noisy = torch.where(chosen[:, None, None], path.after[:, 0], plain)
    assert torch.equal(path.actions, noisy)
    quiet = StochasticEuler(steps=5, noise_level=1e-9).sample(curved, noise, mask, generator=generator())
    torch.testing.assert_close(quiet.actions, Euler(steps=5)(curved, noise), atol=1e-7, rtol=0)


def test_all_steps_are_linked():
    sampler, noise, mask = StochasticEuler(steps=3, stochastic_steps="all"), noises(2, 4, 3), ragged()
    path = sampler.sample(curved, noise, mask, generator=generator())
    assert path.step.tolist() == [[0, 1, 2]] * 2
    assert torch.equal(path.before[:, 0], torch.where(mask, noise, 0))
    assert torch.equal(path.before[:, 1:], path.after[:, :-1])
    assert torch.equal(path.after[:, -1], path.actions)
    assert path.actions[~mask].eq(0).all()


def test_log_probabilities_are_sums_over_real_entries():
    sampler, mask = StochasticEuler(steps=4, stochastic_steps="all"), ragged()
    path = sampler.sample(curved, noises(2, 4, 3), mask, generator=generator())
    law = sampler.transitions(curved, path, mask)
    for row in range(2):
        for transition in range(4):
            each = normal_log_density(path.after, law.mean, law.std)[row, transition][mask[row]]
            assert len(each) == [8, 6][row]
            assert path.log_prob[row, transition].item() == pytest.approx(each.sum().item())


@pytest.mark.parametrize("stochastic_steps", ["one", "all"])
def test_padding_changes_nothing_whatever_it_holds(stochastic_steps):
    sampler, mask = StochasticEuler(steps=3, stochastic_steps=stochastic_steps), ragged()
    weight = torch.tensor(0.7, dtype=torch.double, requires_grad=True)
    results = []
    for poison in (0.0, math.nan, math.inf):

        def field(noisy, time, poison=poison):
            assert noisy[~mask].eq(0).all()
            return torch.where(mask, weight * curved(noisy, time), poison)

        with torch.no_grad():
            noise = torch.where(mask, noises(2, 4, 3), poison)
            path = sampler.sample(field, noise, mask, generator=generator())
        dirty = StochasticPath(
            actions=path.actions,
            before=torch.where(mask[:, None], path.before, poison),
            after=torch.where(mask[:, None], path.after, poison),
            step=path.step,
            log_prob=path.log_prob,
        )
        law = sampler.transitions(field, dirty, mask)
        assert law.mean.detach().masked_select(~mask[:, None]).eq(0).all()
        log_prob = law.log_prob(dirty.after)
        kl = sampler.kl(field, curved, dirty, mask)
        (gradient,) = torch.autograd.grad(log_prob.sum() + kl.sum(), weight)
        results.append([path.actions, path.log_prob, log_prob, kl, gradient])
        assert all(part.isfinite().all() for part in results[-1])
        assert torch.equal(path.log_prob, log_prob)
    for other in results[1:]:
        assert all(torch.equal(clean, poisoned) for clean, poisoned in zip(results[0], other, strict=True))


def test_a_chunk_without_real_entries_has_density_one():
    mask = torch.zeros(1, 2, 2, dtype=torch.bool)
    path = StochasticEuler().sample(curved, noises(1, 2, 2), mask)
    assert path.log_prob.tolist() == [[0.0]]


def heads() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    size = {"context_width": 7, "channels": 3, "width": 16, "depth": 2, "num_heads": 2, "mlp_hidden": 12}
    made = {
        "joint": DiTHead(attention="joint", **size),
        "cached": DiTHead(attention="cached", **size),
        "anchored": AnchoredHead(DiTHead(attention="cached", **size), context_width=7, horizon=4),
    }
    for head in made.values():
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return made


def context(batch: int) -> Context:
    return Context(
        hidden=torch.randn(batch, 5, 7, generator=generator(1)),
        mask=torch.ones(batch, 5, dtype=torch.bool),
        position_ids=torch.arange(5).expand(3, batch, 5),
    )


def field_of(head, seen, mask):
    conditioned = head.condition(seen)

    def field(noisy, time):
        assert time.gt(0).all()
        return head(noisy, time, conditioned, mask)

    return field


@pytest.mark.parametrize("stochastic_steps", ["one", "all"])
@pytest.mark.parametrize("kind", ["joint", "cached", "anchored"])
def test_ratios_are_one_at_equal_weights(kind, stochastic_steps):
    head, mask = heads()[kind], ragged().repeat(6, 1, 1)
    sampler = StochasticEuler(steps=4, stochastic_steps=stochastic_steps)
    with torch.no_grad():
        path = sampler.sample(
            field_of(head, context(12), mask), torch.randn(mask.shape, generator=generator()), mask,
            generator=generator(),
        )  # fmt: skip
    assert path.log_prob.dtype == torch.float32
    log_prob = sampler.log_prob(field_of(head, context(12), mask), path, mask)
    assert torch.equal((log_prob - path.log_prob).exp(), torch.ones_like(log_prob))
    assert log_prob.requires_grad
    log_prob.sum().backward()
    moved = [parameter.grad for parameter in head.parameters() if parameter.grad is not None]
    assert sum(gradient.abs().sum() for gradient in moved) > 0
    # A minibatch in another order is the same up to rounding.
    rows = torch.tensor([7, 0, 4])
    seen = context(12)
    some = Context(hidden=seen.hidden[rows], mask=seen.mask[rows], position_ids=seen.position_ids[:, rows])
    again = sampler.log_prob(field_of(head, some, mask[rows]), path[rows], mask[rows])
    torch.testing.assert_close(again, path.log_prob[rows], atol=2e-5, rtol=1e-5)


def test_log_prob_asks_the_field_once_per_transition():
    asked = []

    def field(noisy, time):
        asked.append(time)
        return curved(noisy, time)

    mask = torch.ones(6, 4, 3, dtype=torch.bool)
    for stochastic_steps, passes in (("one", 1), ("all", 5)):
        sampler = StochasticEuler(steps=5, stochastic_steps=stochastic_steps)
        path = sampler.sample(field, noises(6, 4, 3), mask, generator=generator())
        assert len(asked) == 5
        asked.clear()
        sampler.log_prob(field, path, mask)
        assert len(asked) == passes
        torch.testing.assert_close(torch.stack(asked, 1), 1 - path.step.double() / 5)
        asked.clear()


def test_gradients_agree_with_finite_differences():
    mask = ragged()
    sampler = StochasticEuler(steps=3, stochastic_steps="all")
    path = sampler.sample(curved, noises(2, 4, 3), mask, generator=generator())
    weights = torch.randn(3, 3, generator=generator(3), dtype=torch.double).requires_grad_()

    def values(weights):
        def field(noisy, time):
            return torch.tanh(noisy @ weights) + time.view(-1, 1, 1)

        law = sampler.transitions(field, path, mask)
        return law.log_prob(path.after), sampler.kl(field, curved, path, mask)

    assert torch.autograd.gradcheck(values, weights)


def test_the_gradient_of_a_density_by_hand():
    """d mean / d velocity = -delta - std^2 (1 - time) / (2 time), and d log p / d mean = (after - mean) / std^2."""
    sampler = StochasticEuler(steps=4)
    answer = torch.tensor([[[0.3]]], requires_grad=True)
    path = at(torch.tensor([0.5]), torch.tensor([0.9]), torch.tensor([1]))
    log_prob = sampler.log_prob(lambda noisy, time: answer, path, everywhere(1))
    (gradient,) = torch.autograd.grad(log_prob.sum(), answer)
    mean, std = section_6_2(0.5, 0.3, 1, 4, 0.5)
    slope = -0.25 - std**2 * 0.25 / (2 * 0.75)
    assert gradient.item() == pytest.approx((0.9 - mean) / std**2 * slope, rel=1e-5)


def test_kl_is_the_closed_form_and_what_quadrature_says():
    sampler, mask = StochasticEuler(steps=4, stochastic_steps="all"), ragged()
    path = sampler.sample(curved, noises(2, 4, 3), mask, generator=generator())

    def other(noisy, time):
        return curved(noisy, time) + 0.3

    ours, theirs = (sampler.transitions(field, path, mask) for field in (curved, other))
    normals = [torch.distributions.Normal(law.mean, law.std) for law in (ours, theirs)]
    each = torch.where(mask[:, None], torch.distributions.kl_divergence(*normals), 0)
    torch.testing.assert_close(sampler.kl(curved, other, path, mask), each.sum((-2, -1)))
    assert sampler.kl(curved, curved, path, mask).tolist() == [[0.0] * 4] * 2

    grid = torch.linspace(-6, 6, 4001, dtype=torch.double)
    many = at(torch.full_like(grid, 0.6), grid, torch.full((len(grid),), 2))
    log_prob, reference = (sampler.log_prob(field, many, everywhere(len(grid))).flatten() for field in (curved, other))
    by_quadrature = torch.trapezoid(log_prob.exp() * (log_prob - reference), grid).item()
    assert by_quadrature == pytest.approx(sampler.kl(curved, other, many[:1], everywhere(1)).item(), abs=1e-8)
    entropy = torch.trapezoid(-log_prob.exp() * log_prob, grid).item()
    law = sampler.transitions(curved, many[:1], everywhere(1))
    assert entropy == pytest.approx(law.entropy().item(), abs=1e-8)


def test_entropy_is_the_sum_over_real_entries():
    sampler, mask = StochasticEuler(steps=4, stochastic_steps="all"), ragged()
    path = sampler.sample(curved, noises(2, 4, 3), mask, generator=generator())
    one = torch.tensor([0.5 * math.log(2 * math.pi * math.e * std**2) for std in sampler.deviations().tolist()])
    expected = torch.stack([8 * one, 6 * one]).double()
    torch.testing.assert_close(sampler.transitions(curved, path, mask).entropy(), expected)


def test_the_score_has_mean_zero():
    """What makes policy gradients unbiased: `E[d log p] = 0` under the density itself."""
    count = 50_000
    sampler, mask = StochasticEuler(steps=3), everywhere(count)
    shift = torch.zeros(count, 1, 1, dtype=torch.double, requires_grad=True)

    def field(noisy, time):
        return curved(noisy, time) + shift

    with torch.no_grad():
        path = sampler.sample(field, noises(count, 1, 1), mask, generator=generator())
    (score,) = torch.autograd.grad(sampler.log_prob(field, path, mask).sum(), shift)
    assert score.abs().mean().item() > 0.5
    assert score.mean().item() == pytest.approx(0, abs=4 * score.std().item() / math.sqrt(count))


def test_a_generator_makes_paths_repeatable():
    sampler, mask = StochasticEuler(), torch.ones(8, 4, 3, dtype=torch.bool)
    first, again, other = (
        sampler.sample(curved, noises(8, 4, 3), mask, generator=generator(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first.actions, again.actions)
    assert torch.equal(first.step, again.step)
    assert not torch.equal(first.actions, other.actions)


def test_half_precision_noise_is_carried_in_float32():
    asked = []

    def field(noisy, time):
        asked.append((noisy.dtype, time.dtype))
        return noisy.bfloat16()

    path = StochasticEuler(steps=3).sample(field, noises(2, 4, 3).bfloat16(), ragged())
    assert set(asked) == {(torch.float32, torch.float32)}
    assert path.actions.dtype == path.log_prob.dtype == torch.float32


def test_fields_are_asked_at_the_times_of_euler():
    def times_of(solve):
        asked = []

        def field(noisy, time):
            asked.append(time)
            return noisy

        solve(field)
        return torch.stack(asked)

    noise, mask = noises(2, 4, 3).float(), ragged()
    ours = times_of(lambda field: StochasticEuler(steps=7).sample(field, noise, mask))
    assert torch.equal(ours, times_of(lambda field: Euler(steps=7)(field, noise)))


def test_paths_are_cut_joined_and_moved():
    sampler, mask = StochasticEuler(steps=3, stochastic_steps="all"), torch.ones(5, 4, 3, dtype=torch.bool)
    path = sampler.sample(curved, noises(5, 4, 3), mask)
    assert len(path) == 5
    for rows in (torch.tensor([3, 1]), slice(1, 3), torch.tensor([True, False, False, True, False])):
        some = path[rows]
        for name in ("actions", "before", "after", "step", "log_prob"):
            assert torch.equal(getattr(some, name), getattr(path, name)[rows])
    joined = StochasticPath.cat([path[:2], path[2:]])
    assert torch.equal(joined.before, path.before)
    assert torch.equal(joined.log_prob, path.log_prob)
    moved = path.to("meta")
    assert {getattr(moved, name).device.type for name in ("actions", "before", "after", "step", "log_prob")} == {"meta"}
    with pytest.raises(SettingError, match="paths must hold at least one path, got none"):
        StochasticPath.cat([])


@pytest.mark.usefixtures("shape_hook_off")
def test_settings_and_paths_are_checked():
    for settings, text in (
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"noise_level": 0.0}, r"noise_level must be above 0 and finite, got 0\.0\. Use 0\.5, or Euler"),
        ({"noise_level": math.inf}, "noise_level must be above 0"),
        ({"stochastic_steps": "some"}, "stochastic_steps must be 'one' or 'all', got 'some'"),
    ):
        with pytest.raises(SettingError, match=text):
            StochasticEuler(**settings)
    sampler, mask = StochasticEuler(steps=4, stochastic_steps="all"), ragged()
    path = sampler.sample(curved, noises(2, 4, 3), mask)
    with pytest.raises(SettingError, match="steps must be those of the sampler that made the path, got 3 and a path"):
        StochasticEuler(steps=3).log_prob(curved, path, mask)
    assert copy.deepcopy(sampler).__dict__ == sampler.__dict__
    assert repr(sampler) == "StochasticEuler(steps=4, noise_level=0.5, stochastic_steps='all')"


@pytest.mark.usefixtures("shape_hook_off")
def test_a_wrong_shape_raises():
    with pytest.raises(ShapeError, match=r"noise must have the shape of mask \(2, 4, 3\), got \(2, 4, 2\)"):
        StochasticEuler().sample(curved, torch.zeros(2, 4, 2), ragged())
