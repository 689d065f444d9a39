import copy
import math

import pytest
import torch
from two_samples import context

from vla_kit.errors import SettingError, ShapeError
from vla_kit.heads import ValueHead, mean_token
from vla_kit.protocols import Context


def by_hand() -> Context:
    return Context(
        hidden=torch.tensor([[[1.0, 10.0], [3.0, 30.0], [math.nan, 7.0]], [[5.0, 0.0], [7.0, 7.0], [7.0, 7.0]]]),
        mask=torch.tensor([[True, True, False], [True, False, False]]),
        position_ids=torch.arange(3).expand(3, 2, 3),
    )


def trained(width: int) -> ValueHead:
    head = ValueHead(context_width=width)
    torch.nn.init.normal_(head.readout.weight, generator=torch.Generator().manual_seed(0))
    torch.nn.init.constant_(head.readout.bias, 0.5)
    return head


def test_mean_of_real_tokens_by_hand():
    assert mean_token(by_hand()).tolist() == [[2.0, 20.0], [5.0, 0.0]]


def test_no_real_token_gives_0():
    empty = Context(
        hidden=torch.full((1, 2, 3), math.nan),
        mask=torch.zeros(1, 2, dtype=torch.bool),
        position_ids=torch.zeros(3, 1, 2, dtype=torch.long),
    )
    assert mean_token(empty).tolist() == [[0.0] * 3]


def test_value_by_hand():
    head = ValueHead(context_width=2)
    assert head(by_hand()).tolist() == [0.0, 0.0]  # a new head
    with torch.no_grad():
        head.readout.weight.copy_(torch.tensor([[0.5, -0.1]]))
        head.readout.bias.fill_(0.25)
    torch.testing.assert_close(head(by_hand()), torch.tensor([-0.75, 2.75]))


def test_padding_changes_nothing_whatever_it_holds():
    head, results = trained(7), []
    for padding in (0.0, math.nan, math.inf):
        head.zero_grad()
        values = head(context(padding=padding))
        values.square().sum().backward()
        results.append((values.detach(), head.readout.weight.grad.clone(), head.readout.bias.grad.clone()))
    for other in results[1:]:
        assert all(torch.equal(first, second) for first, second in zip(results[0], other, strict=True))


def test_a_sample_alone_gives_what_it_gives_in_a_batch():
    head, both = trained(7), context()
    for row in range(2):
        alone = Context(
            hidden=both.hidden[row : row + 1], mask=both.mask[row : row + 1], position_ids=both.position_ids[:, :1]
        )
        torch.testing.assert_close(head(alone)[0], head(both)[row])


def test_no_gradient_reaches_the_backbone():
    hidden = by_hand().hidden.nan_to_num().requires_grad_()
    head = trained(2)
    seen = Context(hidden=hidden, mask=by_hand().mask, position_ids=by_hand().position_ids)
    head(seen).sum().backward()
    assert hidden.grad is None
    assert head.readout.weight.grad.abs().sum() > 0


def test_a_value_is_learned():
    """Two states of known worth, by gradient descent on the head alone."""
    head, target = ValueHead(context_width=2), torch.tensor([1.0, -2.0])
    optimiser = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        (head(by_hand()) - target).square().sum().backward()
        optimiser.step()
    torch.testing.assert_close(head(by_hand()).detach(), target, atol=0.05, rtol=0)


def test_half_precision_and_copies():
    head = trained(7).bfloat16()
    assert head(context()).dtype == torch.bfloat16
    other = ValueHead(context_width=7).bfloat16()
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(context()), head(context()))
    assert torch.equal(copy.deepcopy(head)(context()), head(context()))
    head.reset_parameters()
    assert head(context()).eq(0).all()


@pytest.mark.usefixtures("shape_hook_off")
def test_refuses():
    with pytest.raises(SettingError, match="context_width must be at least 1, got 0"):
        ValueHead(context_width=0)
    with pytest.raises(ShapeError, match=r"context\.hidden must have 8 features, got \(2, 4, 7\)"):
        ValueHead(context_width=8)(context())
