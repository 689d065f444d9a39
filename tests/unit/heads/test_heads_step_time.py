"""Heads where the steps of a chunk have times of their own."""

import math

import pytest
import torch
from two_samples import context, wanted

from vla_kit.errors import ShapeError
from vla_kit.heads import AnchoredHead, DiTHead

HORIZON, CHANNELS = 3, 5


def dit(attention):
    torch.manual_seed(0)
    head = DiTHead(
        context_width=7, channels=CHANNELS, width=16, depth=2, num_heads=2, mlp_hidden=12, attention=attention
    )
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return head


def anchored(attention):
    head = AnchoredHead(dit(attention), context_width=7, horizon=2)
    torch.nn.init.normal_(head.readout.weight)
    return head


HEADS = {f"{build.__name__}, {mode}": (build, mode) for build in (dit, anchored) for mode in ("joint", "cached")}


@pytest.fixture(params=HEADS)
def head(request):
    build, attention = HEADS[request.param]
    return build(attention)


def noisy(draws=1):
    return torch.randn(2 * draws, HORIZON, CHANNELS, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("draws", [1, 3])
def test_equal_times_give_what_one_time_gives(head, draws):
    time, mask = torch.rand(2 * draws), wanted().repeat_interleave(draws, 0)
    one = head(noisy(draws), time, context(), mask)
    torch.testing.assert_close(
        head(noisy(draws), time[:, None].expand(-1, HORIZON), context(), mask), one, rtol=1e-4, atol=1e-4
    )
    conditioned = head.condition(context())
    torch.testing.assert_close(
        head(noisy(draws), time[:, None].expand(-1, HORIZON), conditioned, mask), one, rtol=1e-4, atol=1e-4
    )


def test_the_time_of_a_step_matters_to_all_steps_of_its_chunk_and_to_no_other(head):
    mask = torch.ones(2, HORIZON, CHANNELS, dtype=torch.bool)
    time = torch.full((2, HORIZON), 0.7)
    before = head(noisy(), time, context(), mask)
    time[0, 0] = 0.0
    after = head(noisy(), time, context(), mask)
    assert (after[0] - before[0]).abs().amax(-1).min() > 1e-4
    assert torch.equal(after[1], before[1])


def test_the_time_of_padding_changes_nothing(head):
    mask = wanted()
    time = torch.full((2, HORIZON), 0.3)
    before = head(noisy(), time, context(), mask)
    padded = ~mask.any(-1)
    assert padded.any()
    changed = torch.where(padded, 0.9, time)
    assert torch.equal(head(noisy(), changed, context(), mask), before)


def test_a_clean_step_is_seen_clean(head):
    """What stands in a known step at time 0 reaches the others; gradients are finite."""
    mask = torch.ones(2, HORIZON, CHANNELS, dtype=torch.bool)
    time = torch.tensor([[0.0, 0.8, 0.8]]).expand(2, -1)
    actions = noisy().requires_grad_()
    velocity = head(actions, time, context(), mask)
    (gradient,) = torch.autograd.grad(velocity[:, 1:].square().sum(), actions)
    assert gradient[:, 0].abs().amin() > 0
    assert gradient.isfinite().all()
    assert not math.isnan(velocity.sum().item())


@pytest.mark.usefixtures("shape_hook_off")
def test_other_shapes_are_refused():
    with pytest.raises(ShapeError, match=r"time must have the shape \(2,\), got \(2, 1\).*one per step"):
        dit("joint")(noisy(), torch.zeros(2, 1), context(), wanted())
