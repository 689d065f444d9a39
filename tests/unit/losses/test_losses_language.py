import math

import pytest
import torch

from vla_kit.errors import ShapeError
from vla_kit.losses import next_token_loss


def test_value_by_hand():
    logits = torch.zeros(1, 3, 2)
    logits[0, 0] = torch.tensor([0.0, math.log(3.0)])  # predicts label 1 of token 1 with probability 3/4
    logits[0, 1] = torch.tensor([0.0, 0.0])  # predicts label 0 of token 2 with probability 1/2
    logits[0, 2] = torch.tensor([50.0, -50.0])  # predicts nothing: there is no fourth token
    expected = (-math.log(3 / 4) - math.log(1 / 2)) / 2
    assert next_token_loss(logits, torch.tensor([[1, 1, 0]])).item() == pytest.approx(expected)


def test_agrees_with_shifted_cross_entropy():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 7, 11), torch.randint(0, 11, (3, 7))
    labels[torch.rand(3, 7) < 0.4] = -100
    expected = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(next_token_loss(logits, labels), expected)


@pytest.mark.parametrize("tokens", [1, 3])
def test_no_labels_give_zero_with_a_graph(tokens):
    logits = torch.randn(2, tokens, 5, requires_grad=True)
    loss = next_token_loss(logits, torch.full((2, tokens), -100))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_logits_of_ignored_labels_change_nothing_whatever_they_hold():
    labels = torch.tensor([[-100, 2, -100, 1]])
    ignored = torch.tensor([False, True, False, True])  # rows 1 and 3 predict an ignored or no label
    results = []
    for padding in (0.0, math.nan):
        torch.manual_seed(0)
        logits = torch.where(ignored[:, None], padding, torch.randn(1, 4, 5)).requires_grad_()
        loss = next_token_loss(logits, labels)
        loss.backward()
        results.append((loss.detach(), logits.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_half_precision_gives_float32():
    loss = next_token_loss(torch.zeros(1, 2, 4, dtype=torch.bfloat16), torch.tensor([[0, 1]]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(4))


@pytest.mark.usefixtures("shape_hook_off")
def test_shifted_labels_raise():
    with pytest.raises(ShapeError, match=r"labels must have the shape \(2, 4\) of the logits' tokens, got \(2, 3\)"):
        next_token_loss(torch.zeros(2, 4, 5), torch.zeros(2, 3, dtype=torch.long))
