from itertools import pairwise

import numpy as np
import pytest

from vla_kit.envs import TASKS, Disturbance
from vla_kit.errors import SettingError


def test_no_sigma_means_a_clean_episode_even_with_kicks():
    disturbance = Disturbance(sigmas=(0.0,), channels=(True, True), kick_chance=1.0, kick_sigma=5.0)
    assert not disturbance.draw(20, rng=np.random.default_rng(0)).any()


def test_channels_that_may_not_be_disturbed_stay_zero():
    disturbance = Disturbance(sigmas=(0.5,), channels=(True, False, True), kick_chance=0.5, kick_sigma=1.0)
    offsets = disturbance.draw(50, rng=np.random.default_rng(0))
    assert not offsets[:, 1].any()
    assert (offsets[:, [0, 2]] != 0).all()


def test_sigma_is_drawn_once_per_episode():
    disturbance = Disturbance(sigmas=(0.1, 1.0), channels=(True,) * 8)
    spread = [disturbance.draw(200, rng=np.random.default_rng(seed)).std() for seed in range(40)]
    low, high = [s for s in spread if s < 0.3], [s for s in spread if s >= 0.3]
    assert len(low) > 8
    assert len(high) > 8
    np.testing.assert_allclose(low, 0.1, rtol=0.1)
    np.testing.assert_allclose(high, 1.0, rtol=0.1)


def test_kicks_last_for_one_to_kick_steps_decisions():
    disturbance = Disturbance(sigmas=(1e-9,), channels=(True,), kick_chance=0.05, kick_sigma=10.0, kick_steps=3)
    offsets = disturbance.draw(4000, rng=np.random.default_rng(0))[:, 0].round(4)
    starts = np.flatnonzero(np.diff(offsets) != 0) + 1
    lengths = [stop - start for start, stop in pairwise(starts) if offsets[start] != 0]
    assert set(lengths) == {1, 2, 3}


def test_equal_generators_give_equal_offsets():
    disturbance = TASKS["metaworld/reach"].disturbance
    first, second = (disturbance.draw(10, rng=np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_prefix_does_not_depend_on_what_the_caller_does_later():
    disturbance = TASKS["aloha/transfer-cube"].disturbance
    assert disturbance.draw(0, rng=np.random.default_rng(0)).shape == (0, 14)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sigmas": ()}, "sigmas must be one or more finite numbers >= 0"),
        ({"sigmas": (-0.1,)}, "sigmas must be one or more finite numbers >= 0"),
        ({"channels": ()}, "channels must have one entry per action channel"),
        ({"kick_chance": 1.5}, r"kick_chance must lie in \[0, 1\], got 1.5"),
        ({"kick_sigma": -1.0}, "kick_sigma must be >= 0 and finite"),
        ({"kick_steps": 0}, "kick_steps must be >= 1"),
    ],
)
def test_wrong_numbers_are_named(change, text):
    with pytest.raises(SettingError, match=text):
        Disturbance(**{"sigmas": (0.1,), "channels": (True,), **change})
