import math

import pytest

from vla_kit.errors import SettingError
from vla_kit.training import warmup_cosine


def test_rises_linearly_then_follows_half_a_cosine():
    factors = [warmup_cosine(step, warmup_steps=4, total_steps=12) for step in range(13)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[8] == pytest.approx(0.5)
    assert factors[12] == pytest.approx(0.0)
    expected = [0.5 * (1 + math.cos(math.pi * step / 8)) for step in range(9)]
    assert factors[4:] == pytest.approx(expected)


def test_ends_at_the_final_share_and_stays_there():
    assert warmup_cosine(10, warmup_steps=0, total_steps=10, final=0.1) == pytest.approx(0.1)
    assert warmup_cosine(99, warmup_steps=0, total_steps=10, final=0.1) == pytest.approx(0.1)


def test_a_run_without_end_keeps_the_peak():
    assert warmup_cosine(10**6, warmup_steps=3, total_steps=math.inf) == 1.0


def test_warm_up_longer_than_the_run_still_rises():
    assert warmup_cosine(4, warmup_steps=10, total_steps=5) == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warmup_steps": -1, "total_steps": 5}, "warmup_steps must be at least 0, got -1"),
        ({"warmup_steps": 0, "total_steps": 5, "final": 1.5}, r"final must lie in \[0, 1\], got 1.5"),
    ],
)
def test_refuses(settings, message):
    with pytest.raises(SettingError, match=message):
        warmup_cosine(0, **settings)
