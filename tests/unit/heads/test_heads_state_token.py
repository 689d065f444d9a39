"""The robot's state as one more token of the context."""

import math
from dataclasses import replace

import pytest
import torch
from two_samples import context, wanted

from vla_kit.errors import DataError, SettingError, ShapeError
from vla_kit.heads import AnchoredHead, DiTHead, StateTokenHead
from vla_kit.heads.state_token import state_channels
from vla_kit.protocols import VelocityField

MODES = ["joint", "cached"]
STATE_MASK = torch.tensor([[True, True, False], [True, True, True]])


def open_head(attention: str = "joint") -> StateTokenHead:
    torch.manual_seed(0)
    inner = DiTHead(context_width=7, channels=5, width=16, depth=2, num_heads=2, mlp_hidden=12, attention=attention)
    head = StateTokenHead(inner, state_channels=3)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return head


def with_state(*, padding: float = 0.0, mask: torch.Tensor = STATE_MASK):
    state = torch.randn(2, 3, generator=torch.Generator().manual_seed(3))
    return replace(context(), state=torch.where(mask, state, padding), state_mask=mask)


def chunk():
    generator = torch.Generator().manual_seed(2)
    return torch.randn(wanted().shape, generator=generator), torch.rand(2, generator=generator), wanted()


def test_the_token_stands_behind_the_context_at_the_next_position():
    head = open_head()
    longer = head.with_state(with_state())
    assert longer.position_ids[:, :, -1].tolist() == [[4, 2]] * 3  # the second sample has two real tokens
    assert longer.mask[:, -1].all()
    by_hand = head.token(torch.where(STATE_MASK, with_state().state, 0)[1])
    torch.testing.assert_close(longer.hidden[1, -1], by_hand)


@pytest.mark.parametrize("attention", MODES)
def test_the_state_changes_the_velocity_of_its_sample_alone(attention):
    head, (noisy, time, mask) = open_head(attention), chunk()
    assert isinstance(head, VelocityField)
    before, seen = head(noisy, time, with_state(), mask), with_state()
    moved = replace(seen, state=seen.state + torch.tensor([[0.0], [1.0]]))
    after = head(noisy, time, moved, mask)
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])
    assert torch.equal(head(noisy, time, head.condition(with_state()), mask), before)


@pytest.mark.parametrize("attention", MODES)
def test_padding_of_the_state_changes_neither_velocity_nor_gradients(attention):
    head, results = open_head(attention), []
    for padding in (0.0, math.nan, math.inf):
        head.zero_grad()
        noisy, time, mask = chunk()
        velocity = head(noisy, time, with_state(padding=padding), mask)
        velocity.square().sum().backward()
        results.append([velocity.detach(), *(parameter.grad.clone() for parameter in head.parameters())])
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


@pytest.mark.parametrize("attention", MODES)
def test_a_sample_without_a_state_gets_what_it_gets_without_the_wrapper(attention):
    head, (noisy, time, mask) = open_head(attention).double(), chunk()
    none = with_state(mask=torch.tensor([[False] * 3, [True] * 3]))
    none = replace(none, hidden=none.hidden.double(), state=none.state.double())
    plain = replace(none, state=None, state_mask=None)
    found, expected = head(noisy.double(), time, none, mask), head.head(noisy.double(), time, plain, mask)
    torch.testing.assert_close(found[0], expected[0])
    assert not torch.equal(found[1], expected[1])


def test_stands_inside_and_around_an_anchored_head():
    noisy, time, mask = chunk()
    inside = AnchoredHead(open_head(), context_width=7, horizon=3)
    around = StateTokenHead(AnchoredHead(open_head().head, context_width=7, horizon=3), state_channels=3)
    for head in (inside, around):
        assert (head.channels, head.context_width, state_channels(head)) == (5, 7, 3)
        assert head(noisy, time, with_state(), mask)[mask].all()
    assert state_channels(open_head().head) is None


@pytest.mark.usefixtures("shape_hook_off")
def test_states_that_do_not_fit_raise():
    head = open_head()
    with pytest.raises(DataError, match=r"context\.state and context.state_mask must be given to this head, got none"):
        head.condition(context())
    with pytest.raises(ShapeError, match=r"must have 3 channels, got \(2, 2\) and \(2, 3\)"):
        head.condition(replace(with_state(), state=torch.zeros(2, 2)))
    with pytest.raises(ShapeError, match=r"context.hidden must have 7 features"):
        head.condition(replace(with_state(), hidden=torch.zeros(2, 4, 3)))
    with pytest.raises(SettingError, match="state_channels must be at least 1, got 0"):
        StateTokenHead(head.head, state_channels=0)
