import copy

import pytest
import torch

from vla_kit.errors import SettingError, ShapeError
from vla_kit.losses import JointLoss


def test_value_by_hand():
    total = JointLoss(action_weight=2.0, language_weight=0.5)(
        action=torch.tensor([1.0, 2.0, 6.0]), language=torch.tensor(4.0)
    )
    assert total.item() == 2 * 3 + 0.5 * 4


def test_defaults_are_those_of_fine_tuning():
    assert JointLoss()(action=torch.tensor([3.0]), language=torch.tensor(1.0)).item() == pytest.approx(3.1)


def test_either_part_may_be_absent():
    assert JointLoss()(action=torch.tensor([3.0])).item() == 3
    assert JointLoss()(language=torch.tensor(1.0)).item() == pytest.approx(0.1)


def test_an_empty_part_costs_nothing_and_keeps_the_graph():
    action = torch.zeros(0, requires_grad=True)
    total = JointLoss()(action=action, language=torch.tensor(1.0))
    total.backward()
    assert total.item() == pytest.approx(0.1)
    assert action.grad is not None


def test_samples_without_actions_do_not_dilute_the_mean_whatever_they_hold():
    action = torch.tensor([2.0, 4.0, float("nan")], requires_grad=True)
    total = JointLoss()(action=action, has_actions=torch.tensor([True, True, False]))
    total.backward()
    assert total.item() == 3
    assert action.grad.tolist() == [0.5, 0.5, 0.0]
    nobody = JointLoss()(action=action, has_actions=torch.zeros(3, dtype=torch.bool))
    assert nobody.item() == 0


def test_parts_of_different_precision_add_up():
    total = JointLoss()(action=torch.tensor([1.0]), language=torch.tensor(10.0, dtype=torch.bfloat16))
    assert total.item() == pytest.approx(2.0)


def test_can_be_copied():
    assert repr(copy.deepcopy(JointLoss(language_weight=0.3))) == "JointLoss(action_weight=1.0, language_weight=0.3)"


def test_nothing_to_add_raises():
    with pytest.raises(SettingError, match="action must be given when language is None, got None for both"):
        JointLoss()()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"action_weight": -1.0}, "action_weight must be at least 0 and finite, got -1.0"),
        ({"language_weight": float("nan")}, "language_weight must be at least 0 and finite, got nan"),
    ],
)
def test_impossible_weights_raise(settings, text):
    with pytest.raises(SettingError, match=text):
        JointLoss(**settings)


@pytest.mark.usefixtures("shape_hook_off")
def test_a_flag_per_sample_is_needed():
    with pytest.raises(ShapeError, match=r"has_actions must have the shape of action \(2,\), got \(1,\)"):
        JointLoss()(action=torch.zeros(2), has_actions=torch.ones(1, dtype=torch.bool))
