import numpy as np
import pytest
import torch

from vla_kit.actions import StopRule
from vla_kit.envs.standing_still import StandingStill
from vla_kit.errors import SettingError


def test_it_is_the_stop_rule_over_the_last_decisions():
    rng = np.random.default_rng(0)
    still, rule = StandingStill(steps=3, distance_m=0.15, angle_rad=0.2), StopRule(distance_m=0.15, angle_rad=0.2)
    asked = rng.normal(size=(300, 3)) * 0.05
    found = [still(one) for one in asked]
    expected = [end >= 3 and bool(rule(torch.from_numpy(asked[end - 3 : end]))) for end in range(1, 301)]
    assert found == expected
    assert 20 < sum(found) < 280


def test_a_reset_forgets():
    still = StandingStill(steps=2, distance_m=0.1, angle_rad=0.1)
    still(np.zeros(3))
    still.reset()
    assert not still(np.zeros(3))
    assert still(np.zeros(3))


def test_numbers_that_cannot_be_are_refused():
    with pytest.raises(SettingError, match="steps must be at least 1, got 0"):
        StandingStill(steps=0, distance_m=0.1, angle_rad=0.1)
    with pytest.raises(SettingError, match="angle_rad must be at least 0 and finite, got -1"):
        StandingStill(steps=1, distance_m=0.1, angle_rad=-1)
