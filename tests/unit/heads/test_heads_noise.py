import math

import pytest
import torch
from two_samples import context, wanted

from vla_kit.errors import SettingError, ShapeError
from vla_kit.flow import LearnedNoiseEuler
from vla_kit.heads import DiTHead, NoiseHead
from vla_kit.protocols import Context


def head_of(*, scale: float = 0.3) -> NoiseHead:
    torch.manual_seed(0)
    head = NoiseHead(context_width=7, channels=5, width=16)
    torch.nn.init.normal_(head.readout.weight, std=scale)
    return head


def points() -> torch.Tensor:
    return torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(2))


TIMES = torch.tensor([1.0, 0.25])


def test_a_new_head_answers_the_geometric_mean_of_its_bounds():
    head = NoiseHead(context_width=7, channels=5, smallest_std=0.05, largest_std=0.2)
    std = head(points(), TIMES, context(), wanted())
    torch.testing.assert_close(std[wanted()], torch.full((int(wanted().sum()),), 0.1))
    assert std[~wanted()].eq(0).all()


def test_deviations_stay_within_their_bounds_and_reach_them():
    std = head_of(scale=100.0)(points(), TIMES, context(), wanted())[wanted()]
    assert std.min().item() == pytest.approx(0.08, rel=1e-4)
    assert std.max().item() == pytest.approx(0.16, rel=1e-4)
    inside = head_of()(points(), TIMES, context(), wanted())[wanted()]
    assert 0.08 < inside.min() < inside.max() < 0.16


def test_the_logarithm_runs_between_the_bounds_by_tanh():
    head = NoiseHead(context_width=7, channels=5)
    torch.nn.init.constant_(head.readout.bias, 0.4)
    share = (math.tanh(0.4) + 1) / 2
    expected = math.exp((1 - share) * math.log(0.08) + share * math.log(0.16))
    std = head(points(), TIMES, context(), wanted())[wanted()]
    torch.testing.assert_close(std, torch.full_like(std, expected))


def test_it_sees_the_context_the_point_and_the_time():
    head, mask = head_of(), wanted()
    std = head(points(), TIMES, context(), mask)
    seen = context()
    moved = Context(hidden=seen.hidden + 1, mask=seen.mask, position_ids=seen.position_ids)
    for other in (
        head(points() + 1, TIMES, seen, mask),
        head(points(), TIMES - 0.2, seen, mask),
        head(points(), TIMES, moved, mask),
    ):
        assert (other - std)[mask].abs().max() > 1e-4


def test_padding_changes_nothing_whatever_it_holds():
    head, mask, results = head_of(), wanted(), []
    for poison in (0.0, math.nan, math.inf):
        head.zero_grad()
        std = head(torch.where(mask, points(), poison), TIMES, context(padding=poison), mask)
        std.square().sum().backward()
        results.append([std.detach(), *(parameter.grad.clone() for parameter in head.parameters())])
    for other in results[1:]:
        assert all(torch.equal(clean, poisoned) for clean, poisoned in zip(results[0], other, strict=True))


def test_draws_are_sample_major():
    head, mask = head_of(), wanted()
    three = head(points().repeat_interleave(3, 0), TIMES.repeat_interleave(3), context(), mask.repeat_interleave(3, 0))
    once = head(points(), TIMES, context(), mask)
    torch.testing.assert_close(three, once.repeat_interleave(3, 0))


def test_no_gradient_reaches_the_backbone():
    seen = context()
    hidden = seen.hidden.requires_grad_()
    head_of()(points(), TIMES, seen, wanted()).sum().backward()
    assert hidden.grad is None


def test_it_is_the_noise_of_a_learned_noise_sampler():
    """Beside a head: ratios of 1 at equal weights, and gradients of the density and the entropy in both networks."""
    torch.manual_seed(0)
    policy = DiTHead(context_width=7, channels=5, width=16, depth=2, num_heads=2, mlp_hidden=12, attention="cached")
    for parameter in policy.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    noise, mask, sampler = head_of(), wanted(), LearnedNoiseEuler(steps=3)

    def field(noisy, time):
        return policy(noisy, time, context(), mask), noise(noisy, time, context(), mask)

    with torch.no_grad():
        path = sampler.sample(field, points(), mask, generator=torch.Generator().manual_seed(0))
    law = sampler.transitions(field, path, mask)
    assert torch.equal(law.log_prob(path.after), path.log_prob)
    law.entropy().sum().backward(retain_graph=True)
    assert all(parameter.grad is None or parameter.grad.eq(0).all() for parameter in policy.parameters())
    assert noise.readout.weight.grad.abs().sum() > 0
    law.log_prob(path.after).sum().backward()
    assert sum(parameter.grad.abs().sum() for parameter in policy.parameters() if parameter.grad is not None) > 0


def test_half_precision_and_copies():
    head = head_of().bfloat16()
    std = head(points(), TIMES, context(), wanted())
    assert std.dtype == torch.float32
    assert (std[wanted()] > 0.0799).all()
    other = NoiseHead(context_width=7, channels=5, width=16).bfloat16()
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(points(), TIMES, context(), wanted()), std)
    head.reset_parameters()
    assert head.readout.weight.eq(0).all()


@pytest.mark.usefixtures("shape_hook_off")
def test_refuses():
    for settings, text in (
        ({"context_width": 0}, "context_width must be at least 1, got 0"),
        ({"context_width": 7, "width": 0}, "width must be at least 1, got 0"),
        ({"context_width": 7, "smallest_std": 0.0}, r"smallest_std must be above 0 and below largest_std 0\.16, got 0"),
        ({"context_width": 7, "smallest_std": 0.2}, r"smallest_std must be above 0 and below largest_std 0\.16, got 0"),
    ):
        with pytest.raises(SettingError, match=text):
            NoiseHead(**settings)
    head = head_of()
    with pytest.raises(ShapeError, match=r"must have the shape \(a multiple of 2, horizon, 5\), got \(2, 3, 4\)"):
        head(points()[..., :4], TIMES, context(), wanted()[..., :4])
    with pytest.raises(ShapeError, match=r"must have the shape \(a multiple of 2, horizon, 5\), got \(3, 3, 5\)"):
        head(torch.zeros(3, 3, 5), torch.ones(3), context(), torch.ones(3, 3, 5, dtype=torch.bool))
