import pytest

from vla_kit.errors import SettingError
from vla_kit.metrics import rate_difference, wilson_interval


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_values(successes, trials, low, high):
    """Newcombe 1998 (Statistics in Medicine 17, 857-872), table I, method 3."""
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=6e-5)


@pytest.mark.parametrize(
    ("successes", "trials", "confidence"), [(3, 7, 0.9), (50, 50, 0.95), (0, 1, 0.99), (20, 50, 0.5)]
)
def test_wilson_equals_scipy(successes, trials, confidence):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    assert wilson_interval(successes, trials, confidence=confidence) == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((10, 10, 0, 20), 0.6791, 1.0),
        ((10, 10, 0, 10), 0.6075, 1.0),
    ],
)
def test_difference_gives_the_published_values(counts, low, high):
    """Newcombe 1998 (Statistics in Medicine 17, 873-890), table II, method 10."""
    result = rate_difference(*counts)
    assert (result.low, result.high) == pytest.approx((low, high), abs=6e-5)
    assert result.excludes_zero


def test_difference_changes_sign_with_the_order():
    forth, back = rate_difference(9, 10, 3, 10), rate_difference(3, 10, 9, 10)
    assert (back.difference, back.low, back.high) == pytest.approx((-forth.difference, -forth.high, -forth.low))
    assert back.excludes_zero
    assert not rate_difference(5, 10, 4, 10).excludes_zero


def test_wrong_counts():
    with pytest.raises(SettingError, match="trials must be at least 1, got 0"):
        wilson_interval(0, 0)
    with pytest.raises(SettingError, match=r"successes must lie in \[0, 5\], got 6"):
        rate_difference(6, 5, 1, 5)
    with pytest.raises(SettingError, match=r"confidence must lie in \(0, 1\), got 95"):
        wilson_interval(1, 5, confidence=95)
