import pickle

import numpy as np
import pytest
import torch

from vla_kit.data.statistics import RANK_ERROR, FeatureStatistics
from vla_kit.errors import ShapeError

pytest.importorskip("datasketches")
from vla_kit.data.statistics.sketch import QuantileSketch

FRAMES, PARTS = 1_000_000, 64


def rank_errors(frames, stats):
    """How far the ranks of estimated quantiles are from 1 % and 99 %; a value that repeats covers a stretch."""
    for share, values in ((0.01, stats.q01), (0.99, stats.q99)):
        for column, value in zip(np.sort(frames, axis=0).T, values.numpy(), strict=True):
            below, upto = np.searchsorted(column, value, "left"), np.searchsorted(column, value, "right")
            yield abs(np.clip(share, below / len(column), upto / len(column)) - share)


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(FRAMES // 500, 500)) * 0.01
    columns = [
        (np.cumsum(steps, axis=1) + rng.normal(size=(FRAMES // 500, 1))).ravel(),  # a joint, episode by episode
        np.where(rng.random(FRAMES) < 0.8, rng.normal(size=FRAMES) * 1e-4, rng.standard_t(3, size=FRAMES) * 0.01),
        rng.random(FRAMES) < 0.0101,  # a gripper that is rarely closed
        np.round(rng.normal(size=FRAMES) * 50 + 512),  # ticks of a servo
        np.arange(FRAMES) / 20,  # every part holds other numbers
        np.full(FRAMES, -1.57),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def parts(frames):
    counted = []
    for part in np.array_split(frames, PARTS):
        counted.append(FeatureStatistics(frames.shape[1], exact_bytes=0))
        counted[-1].add(part)
    return counted


def test_rank_error_of_merged_parts_stays_below_the_stated_bound(frames, parts):
    whole = FeatureStatistics(frames.shape[1], exact_bytes=0)
    for part in parts:
        whole.merge(part)
    stats = whole.summary()
    assert not whole.exact
    assert stats.count == FRAMES
    assert max(rank_errors(frames, stats)) < RANK_ERROR
    wide = frames.astype(np.float64)
    np.testing.assert_array_equal(stats.minimum, frames.min(axis=0))
    np.testing.assert_array_equal(stats.maximum, frames.max(axis=0))
    np.testing.assert_allclose(stats.mean, wide.mean(axis=0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(stats.std, wide.std(axis=0), rtol=1e-6, atol=1e-9)
    assert (stats.q01[5], stats.q99[5]) == (frames[0, 5], frames[0, 5])


def test_same_parts_give_the_same_bits_wherever_they_were_counted(parts):
    results = []
    for send in (lambda part: part, lambda part: pickle.loads(pickle.dumps(part))):
        whole = FeatureStatistics(parts[0].size, exact_bytes=0)
        for part in parts[:6]:
            whole = send(whole)
            whole.merge(send(part))
        results.append(whole.summary())
    assert results[0].fingerprint == results[1].fingerprint


def test_goes_over_to_a_sketch_when_the_budget_is_used_up():
    frames = np.random.default_rng(1).normal(size=(1000, 2)).astype(np.float32)
    statistics = FeatureStatistics(2, exact_bytes=frames.nbytes)
    statistics.add(frames)
    exact = statistics.summary()
    assert statistics.exact
    statistics.add(frames[:1])
    assert not statistics.exact
    torch.testing.assert_close(statistics.summary().q01, exact.q01, rtol=0, atol=0.1)
    assert statistics.summary().count == 1001


@pytest.mark.parametrize("budgets", [(0, 2**20), (2**20, 0)])
def test_exact_and_sketched_parts_merge(budgets):
    frames = np.arange(2000.0)[:, None]
    one, other = (FeatureStatistics(1, exact_bytes=budget) for budget in budgets)
    one.add(frames[:800])
    other.add(frames[800:])
    one.merge(other)
    stats = one.summary()
    assert (one.exact, stats.count) == (False, 2000)
    assert stats.q01.item() == pytest.approx(19.99, abs=1)


def test_shapes():
    sketch = QuantileSketch(2)
    with pytest.raises(ShapeError, match=r"frames must have the shape \(frame, 2\), got \(1, 3\)"):
        sketch.add(np.zeros((1, 3)))
    with pytest.raises(ShapeError, match=r"other must have 2 channels, got 1"):
        sketch.merge(QuantileSketch(1))
