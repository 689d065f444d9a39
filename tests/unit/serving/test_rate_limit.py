import pytest

from vla_kit.errors import SettingError
from vla_kit.serving.rate_limit import RateLimit


def allowed(rate_hz, times):
    limit = RateLimit(rate_hz=rate_hz, clock=iter(times).__next__)
    return [limit.allows() for _ in times]


def test_a_second_holds_so_many_requests_and_no_more():
    assert allowed(3, [0.0] * 5) == [True, True, True, False, False]


def test_a_pause_gives_requests_back_but_saves_up_no_more_than_a_second():
    assert allowed(2, [0.0, 0.0, 0.0, 0.5, 0.5]) == [True, True, False, True, False]
    assert allowed(2, [0.0, 100.0, 100.0, 100.0]) == [True, True, True, False]


def test_a_steady_client_at_the_rate_is_never_refused():
    assert all(allowed(50, [step / 50 for step in range(500)]))


def test_a_slow_rate_still_lets_the_first_request_pass():
    assert allowed(0.5, [0.0, 1.0, 2.0]) == [True, False, True]


def test_refuses():
    with pytest.raises(SettingError, match="rate_hz must be above 0 and finite, got 0"):
        RateLimit(rate_hz=0)
