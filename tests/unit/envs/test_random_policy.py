import numpy as np
import pytest

from vla_kit.envs import random_actions
from vla_kit.errors import SettingError


def test_actions_fill_the_range_and_nothing_else():
    low, high = np.array([-1.0, 0.0, 2.0]), np.array([1.0, 0.5, 2.0])
    actions = random_actions(low, high, rng=np.random.default_rng(0), steps=2000)
    assert actions.shape == (2000, 3)
    assert (actions >= low).all()
    assert (actions <= high).all()
    np.testing.assert_allclose(actions.mean(0), (low + high) / 2, atol=0.05)
    np.testing.assert_allclose(actions.std(0), (high - low) / np.sqrt(12), atol=0.03)


def test_seeded():
    draw = [random_actions(np.zeros(2), np.ones(2), rng=np.random.default_rng(1)) for _ in range(2)]
    np.testing.assert_array_equal(*draw)


@pytest.mark.parametrize(
    ("low", "high"), [(np.ones(2), np.zeros(2)), (np.zeros(2), np.ones(3)), (np.zeros((1, 2)), np.ones((1, 2)))]
)
def test_limits_that_do_not_fit_are_named(low, high):
    with pytest.raises(SettingError, match="low must be one axis and nowhere above high"):
        random_actions(low, high, rng=np.random.default_rng(0))
