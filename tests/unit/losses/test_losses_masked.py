import math

import pytest
import torch

from vla_kit.errors import ShapeError
from vla_kit.losses import masked_mse


def test_two_levels_by_hand():
    prediction = torch.tensor([[[1.0, 2.0], [3.0, 7.0]]])
    mask = torch.tensor([[[True, True], [True, False]]])
    # Channel 0: (1 + 9) / 2 = 5 over two steps. Channel 1: 4 / 1 over one. Mean over channels: 4.5, not 14 / 3.
    assert masked_mse(prediction, torch.zeros(1, 2, 2), mask).tolist() == [4.5]


def test_loops_give_the_same():
    torch.manual_seed(0)
    prediction, target = torch.randn(4, 5, 6, dtype=torch.double), torch.randn(4, 5, 6, dtype=torch.double)
    mask = torch.rand(4, 5, 6) < 0.5
    mask[1, :, 2] = False
    expected = []
    for sample in range(4):
        channels = []
        for channel in range(6):
            steps = [step for step in range(5) if mask[sample, step, channel]]
            if steps:
                errors = [(prediction[sample, step, channel] - target[sample, step, channel]) ** 2 for step in steps]
                channels.append(sum(errors) / len(errors))
        expected.append(sum(channels) / len(channels))
    torch.testing.assert_close(masked_mse(prediction, target, mask), torch.stack(expected))


def test_a_wide_and_a_narrow_robot_weigh_the_same():
    mask = torch.zeros(2, 4, 32, dtype=torch.bool)
    mask[0, :, :7] = True
    mask[1] = True
    assert masked_mse(torch.ones(2, 4, 32), torch.zeros(2, 4, 32), mask).tolist() == [1.0, 1.0]


def test_padding_changes_neither_loss_nor_gradient_whatever_it_holds():
    torch.manual_seed(0)
    mask = torch.rand(3, 4, 5) < 0.6
    mask[2] = False
    results = []
    for padding in (0.0, 7.0, math.nan, math.inf):
        torch.manual_seed(1)
        prediction = torch.where(mask, torch.randn(3, 4, 5), padding).requires_grad_()
        target = torch.where(mask, torch.randn(3, 4, 5), padding)
        loss = masked_mse(prediction, target, mask)
        (gradient,) = torch.autograd.grad(loss.sum(), prediction)
        results.append((loss, gradient))
    for loss, gradient in results[1:]:
        assert torch.equal(loss, results[0][0])
        assert torch.equal(gradient, results[0][1])
    assert results[0][0][2] == 0


def test_half_precision_is_summed_in_float32():
    prediction = torch.ones(1, 8, 4, dtype=torch.bfloat16)
    loss = masked_mse(prediction, torch.zeros_like(prediction), torch.ones(1, 8, 4, dtype=torch.bool))
    assert loss.dtype == torch.float32
    assert loss.item() == 1.0


@pytest.mark.usefixtures("shape_hook_off")
def test_errors_name_the_shapes():
    target, mask = torch.zeros(2, 8, 32), torch.ones(2, 8, 7, dtype=torch.bool)
    with pytest.raises(ShapeError, match=r"mask must have the shape of target \(2, 8, 32\), got \(2, 8, 7\)"):
        masked_mse(target, target, mask)
    with pytest.raises(ShapeError, match=r"prediction must have the shape of target \(2, 8, 32\), got \(2, 1, 32\)"):
        masked_mse(target[:, :1], target, target.bool())
