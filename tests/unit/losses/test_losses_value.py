import copy
import math

import pytest
import torch

from vla_kit.errors import NonFiniteError, SettingError, ShapeError
from vla_kit.losses import ClippedValueLoss


def test_four_values_by_hand():
    """Within the range; beyond it and right; beyond it and wrong; beyond it on the side away from the return."""
    values = torch.tensor([1.1, 2.0, 3.0, 0.0], requires_grad=True)
    old = torch.tensor([1.0, 1.0, 1.0, 1.0])
    returns = torch.tensor([1.5, 2.0, 2.0, 1.5])
    terms = ClippedValueLoss()(values, old, returns)
    # held: 1.1, 1.2, 1.2, 0.8
    expected = [0.4**2, max(0.0, 0.8**2), max(1.0**2, 0.8**2), max(1.5**2, 0.7**2)]
    assert terms.loss.item() == pytest.approx(0.5 * sum(expected) / 4)
    assert terms.clip_fraction.item() == 0.75
    terms.loss.backward()
    # The second is held: it has come far enough for one update.
    torch.testing.assert_close(values.grad, torch.tensor([-0.4, 0.0, 1.0, -1.5]) / 4)


def test_large_errors_count_linearly():
    """Error 5, delta 2: 2 * (5 - 1) = 8."""
    loss = ClippedValueLoss(huber_delta=2.0)
    assert loss(torch.tensor([0.0]), torch.tensor([0.0]), torch.tensor([5.0])).loss.item() == 8.0


def test_a_wide_range_is_half_the_mean_square():
    values, old, returns = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    terms = ClippedValueLoss(clip=100.0, huber_delta=100.0)(values, old, returns)
    torch.testing.assert_close(terms.loss, 0.5 * torch.nn.functional.mse_loss(values, returns))
    assert terms.clip_fraction.item() == 0.0


def test_explained_variance_by_hand():
    """Returns 0, 2, 4 (variance 8/3), errors 0, 1, -1 (variance 2/3): 1 - 1/4."""
    terms = ClippedValueLoss()(torch.tensor([0.0, 1.0, 5.0]), torch.zeros(3), torch.tensor([0.0, 2.0, 4.0]))
    assert terms.explained_variance.item() == pytest.approx(0.75)


@pytest.mark.parametrize(("values", "explained"), [([0.0, 2.0, 4.0], 1.0), ([3.0, 3.0, 3.0], 0.0)])
def test_explained_variance_of_perfect_and_constant_values(values, explained):
    terms = ClippedValueLoss()(torch.tensor(values), torch.zeros(3), torch.tensor([0.0, 2.0, 4.0]))
    assert terms.explained_variance.item() == pytest.approx(explained)


def test_equal_returns_explain_nothing():
    for values in ([0.3, 0.4], [0.0, 0.0]):
        assert ClippedValueLoss()(torch.tensor(values), torch.zeros(2), torch.zeros(2)).explained_variance.item() == 0.0


def test_only_the_loss_has_a_graph_and_only_values_a_gradient():
    values, old, returns = (torch.tensor([0.5, 1.0], requires_grad=True) for _ in range(3))
    terms = ClippedValueLoss()(values, old, returns)
    assert [name for name in terms.__slots__ if getattr(terms, name).requires_grad] == ["loss"]
    terms.loss.backward()
    assert values.grad is not None
    assert old.grad is None
    assert returns.grad is None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["values", "old_values", "returns"])
def test_inf_and_nan_raise(name, bad):
    parts = {part: torch.zeros(3) for part in ("values", "old_values", "returns")}
    parts[name][1] = bad
    with pytest.raises(NonFiniteError, match=f"^{name} must be finite"):
        ClippedValueLoss()(**parts)


@pytest.mark.usefixtures("shape_hook_off")
def test_settings_and_shapes_are_checked():
    for settings, text in (({"clip": 0.0}, "clip must be above 0"), ({"huber_delta": math.inf}, "huber_delta must be")):
        with pytest.raises(SettingError, match=text):
            ClippedValueLoss(**settings)
    with pytest.raises(ShapeError, match=r"returns must have the shape of values \(3,\), got \(3, 1\)"):
        ClippedValueLoss()(torch.zeros(3), torch.zeros(3), torch.zeros(3, 1))
    with pytest.raises(ShapeError, match=r"old_values must have the shape of values \(3,\), got \(2,\)"):
        ClippedValueLoss()(torch.zeros(3), torch.zeros(2), torch.zeros(3))
    loss = ClippedValueLoss()
    assert copy.deepcopy(loss).__dict__ == loss.__dict__
    assert repr(loss) == "ClippedValueLoss(clip=0.2, huber_delta=10.0)"
