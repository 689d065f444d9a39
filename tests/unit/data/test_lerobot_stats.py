import numpy as np
import pytest

from vla_kit.data.lerobot_stats import ColumnStatistics, array_statistics, pixel_histogram, pixel_statistics


def test_array_statistics_by_hand():
    stats = array_statistics(np.array([[0.0, 5.0], [10.0, 5.0]]))
    assert stats["count"].tolist() == [2]
    assert stats["q01"].tolist() == [0.1, 5.0]
    assert stats["q50"].tolist() == [5.0, 5.0]
    assert (stats["min"].tolist(), stats["max"].tolist()) == ([0.0, 5.0], [10.0, 5.0])
    assert (stats["mean"].tolist(), stats["std"].tolist()) == ([5.0, 5.0], [5.0, 0.0])


def test_pixel_statistics_equal_numpy_on_all_pixels():
    frames = np.random.default_rng(0).integers(3, 200, size=(4, 5, 6, 3), dtype=np.uint8)
    stats = pixel_statistics(pixel_histogram(frames[:1]) + pixel_histogram(frames[1:]), count=4)
    pixels = frames.reshape(-1, 3) / 255.0
    for name, share in {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}.items():
        np.testing.assert_allclose(stats[name].ravel(), np.quantile(pixels, share, axis=0), atol=1e-12)
    for name, expected in {
        "min": pixels.min(0),
        "max": pixels.max(0),
        "mean": pixels.mean(0),
        "std": pixels.std(0),
    }.items():
        np.testing.assert_allclose(stats[name].ravel(), expected, atol=1e-12)
    assert stats["mean"].shape == (3, 1, 1)
    assert stats["count"].tolist() == [4]


def test_pixel_statistics_of_one_pixel():
    stats = pixel_statistics(pixel_histogram(np.full((1, 1, 1, 3), 51, dtype=np.uint8)), count=1)
    assert stats["q01"].ravel().round(6).tolist() == [0.2, 0.2, 0.2]
    assert stats["std"].ravel().tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("kind", [np.float32, np.int64, np.bool_])
def test_parts_give_the_statistics_of_the_whole(kind):
    values = (np.random.default_rng(0).normal(size=(100, 2)) * 3).astype(kind)
    column = ColumnStatistics()
    for part in np.split(values, [10, 11, 60]):
        column.add(part)
    expected = array_statistics(values)
    for name, value in column.result().items():
        np.testing.assert_array_equal(value, expected[name])


def test_beyond_memory_quantiles_are_close_and_the_rest_is_exact():
    pytest.importorskip("datasketches")
    values = np.random.default_rng(0).normal(loc=5, size=(200_000, 2))
    column = ColumnStatistics(exact_bytes=values.nbytes // 3)
    for part in np.split(values, 50):
        column.add(part)
    stats, expected = column.result(), array_statistics(values)
    assert stats.keys() == expected.keys()
    for name in ("min", "max", "count"):
        np.testing.assert_array_equal(stats[name], expected[name])
    for name in ("mean", "std"):
        np.testing.assert_allclose(stats[name], expected[name], rtol=1e-12)
    for name, share in (("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q99", 0.99)):
        ranks = (values <= stats[name]).mean(axis=0)
        assert np.abs(ranks - share).max() < (1e-4 if name in ("q01", "q99") else 1e-3)
