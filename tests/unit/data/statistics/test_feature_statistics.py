import json
import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from vla_kit.actions import QuantileStats
from vla_kit.data.statistics import EXACT_BYTES, FeatureStatistics
from vla_kit.errors import SettingError, ShapeError, StatisticsError

FIELDS = ("q01", "q99", "minimum", "maximum", "mean", "std")


def counted(*parts, **settings):
    statistics = FeatureStatistics(parts[0].shape[1], **settings)
    for part in parts:
        statistics.add(part)
    return statistics


def merged(*parts, **settings):
    whole = counted(parts[0], **settings)
    for part in parts[1:]:
        whole.merge(counted(part, **settings))
    return whole


def assert_equal(one: QuantileStats, other: QuantileStats):
    assert one.count == other.count
    for field in FIELDS:
        assert torch.equal(getattr(one, field), getattr(other, field)), field


def test_hand_computed():
    statistics = counted(np.array([[0.0, 5.0], [1.0, 5.0], [5.0, 5.0]]))
    stats = statistics.summary()
    assert (stats.count, statistics.count, statistics.size, statistics.exact) == (3, 3, 2, True)
    torch.testing.assert_close(stats.q01, torch.tensor([0.02, 5.0]))  # 0.01 * 2 steps of 1 above 0
    torch.testing.assert_close(stats.q99, torch.tensor([4.92, 5.0]))
    torch.testing.assert_close(stats.std, torch.tensor([np.sqrt(14 / 3), 0.0], dtype=torch.float32))
    assert stats.mean.tolist() == [2.0, 5.0]
    assert (stats.minimum.tolist(), stats.maximum.tolist()) == ([0.0, 5.0], [5.0, 5.0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, bool])
def test_equals_numpy_for_every_dtype(dtype):
    frames = (np.random.default_rng(0).normal(size=(500, 3)) * 20 + 60).astype(dtype)
    stats, expected = counted(frames).summary(), QuantileStats.from_frames(frames)
    for field in FIELDS:
        torch.testing.assert_close(getattr(stats, field), getattr(expected, field), rtol=1e-6, atol=0)
    assert stats.fingerprint == expected.fingerprint


@pytest.mark.parametrize("cuts", [[1], [999], [0, 0, 500], list(range(10, 1000, 10))])
def test_merged_parts_equal_their_union_bit_for_bit(cuts):
    frames = np.random.default_rng(1).normal(size=(1000, 4)).astype(np.float32)
    parts = np.split(frames, cuts)
    assert_equal(merged(*parts).summary(), counted(frames).summary())
    assert_equal(counted(*parts).summary(), counted(frames).summary())


def test_merging_leaves_the_other_as_it_is():
    one, other = counted(np.zeros((2, 1))), counted(np.ones((3, 1)))
    one.merge(other)
    other.add(np.full((1, 1), 7.0))
    assert (one.count, one.summary().maximum.item(), other.count) == (5, 1.0, 4)


def test_what_was_added_may_change_afterwards():
    frames = np.ones((2, 1), dtype=np.float32)
    statistics = counted(frames)
    frames[:] = 9
    assert statistics.summary().mean.item() == 1


def test_pickled_parts_merge_to_the_same():
    parts = np.split(np.random.default_rng(2).normal(size=(300, 2)), 3)
    whole = counted(parts[0])
    for part in parts[1:]:
        whole = pickle.loads(pickle.dumps(whole))
        whole.merge(pickle.loads(pickle.dumps(counted(part))))
    assert_equal(whole.summary(), counted(*parts).summary())


def test_binary_channels_are_seen_across_parts():
    columns = {
        "gripper": [0, 1, 0, 1],
        "opens late": [0, 0, 0, 1],
        "constant": [2, 2, 2, 2],
        "three values": [0, 1, 1, 2],
        "middle comes first": [1, 1, 0, 2],
    }
    frames = np.array(list(columns.values()), dtype=float).T
    for exact_bytes in (EXACT_BYTES, 0):
        if not exact_bytes:
            pytest.importorskip("datasketches")
        for cut in range(5):
            parts = np.split(frames, [cut])
            assert merged(*parts, exact_bytes=exact_bytes).binary == (0, 1)


def test_small_numbers_far_from_zero_keep_their_spread():
    frames = 1e6 + np.random.default_rng(3).normal(size=(4000, 1)) * 1e-3
    parts = np.split(frames, 8)
    for statistics in (merged(*parts), merged(*parts, exact_bytes=1000)):
        assert statistics.summary().std.item() == pytest.approx(frames.std(), rel=1e-6)


def test_nothing_and_broken_numbers():
    statistics = FeatureStatistics(2)
    statistics.add(np.empty((0, 2)))
    with pytest.raises(StatisticsError, match=r"must be of at least one frame, got none"):
        statistics.summary()
    with pytest.raises(ShapeError, match=r"frames must have the shape \(frame, 2\), got \(3, 1\)"):
        statistics.add(np.zeros((3, 1)))
    with pytest.raises(ShapeError, match=r"other must have 2 channels, got 3"):
        statistics.merge(FeatureStatistics(3))
    for broken in (np.nan, np.inf):
        with pytest.raises(StatisticsError, match=r"frames must be finite, got NaN or infinity in channels \[1\]"):
            statistics.add(np.array([[0.0, broken]]))
    with pytest.raises(SettingError, match=r"size must be at least 1, got 0"):
        FeatureStatistics(0)
    with pytest.raises(SettingError, match=r"exact_bytes must be at least 0, got -1"):
        FeatureStatistics(1, exact_bytes=-1)


def test_gr1_publishes_what_its_frames_say(shared_data):
    root = shared_data / "groot_gr1_pnp"
    published = json.loads((root / "meta/stats.json").read_text())
    paths = sorted((root / "data").rglob("*.parquet"))
    for key in ("action", "observation.state"):
        parts = [np.stack(pq.read_table(path)[key].to_numpy()) for path in paths]
        stats = merged(*parts).summary()
        assert stats.count == 2096
        for field, name in (("q01", "q01"), ("q99", "q99"), ("minimum", "min"), ("maximum", "max")):
            np.testing.assert_allclose(getattr(stats, field), published[key][name], rtol=0, atol=1e-6)
        for name in ("mean", "std"):  # theirs were summed in float32
            np.testing.assert_allclose(getattr(stats, name), published[key][name], rtol=0, atol=1e-5)
        if key == "action":
            assert (stats.q01 == stats.q99).sum() == 25
