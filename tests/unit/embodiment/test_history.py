import pytest

from vla_kit.embodiment import History
from vla_kit.errors import SettingError


def test_frames_by_hand():
    history = History(frames=3, rate_hz=2)
    assert history.indices(10, recorded_hz=10) == [0, 5, 10]
    assert history.indices(9, recorded_hz=10) == [4, 9]  # the third would lie before the episode
    assert history.indices(0, recorded_hz=10) == [0]
    assert history.indices(7, recorded_hz=2) == [5, 6, 7]


@pytest.mark.parametrize("recorded_hz", [2.0, 2.5, 3.0, 5.0, 29.97, 30.0])
def test_frames_are_distinct_and_at_most_half_a_frame_off(recorded_hz):
    offsets = History(frames=20, rate_hz=2.0).offsets(recorded_hz=recorded_hz)
    assert offsets == sorted(set(offsets))
    assert len(offsets) == 20
    for back, offset in enumerate(offsets):
        assert abs(offset / recorded_hz - back / 2.0) <= 0.5 / recorded_hz + 1e-9


def test_a_budget_of_tokens_is_kept():
    history = History.within(2048, tokens_per_frame=53, rate_hz=2)
    assert history == History(frames=38, rate_hz=2)
    assert 38 * 53 <= 2048 < 39 * 53


def test_refused():
    with pytest.raises(SettingError, match="frames must be at least 1, got 0"):
        History(frames=0, rate_hz=2)
    for rate_hz in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(SettingError, match=f"rate_hz must be above 0 and finite, got {rate_hz}"):
            History(frames=1, rate_hz=rate_hz)
    with pytest.raises(SettingError, match="rate_hz must be at most the recorded 5 Hz, got 10 Hz"):
        History(frames=2, rate_hz=10).offsets(recorded_hz=5)
    for tokens in (0, 2049):
        with pytest.raises(SettingError, match=rf"tokens_per_frame must lie in \[1, 2048\], the budget, got {tokens}"):
            History.within(2048, tokens_per_frame=tokens, rate_hz=2)
