import time

import numpy as np
import pytest
import torch

from vla_kit.data.order import MixtureOrder
from vla_kit.errors import SettingError


@pytest.mark.parametrize(
    "weights", [[1, 1, 1], [1, 3], [74.2, 6, 7.5, 3.7, 3.4, 2.5, 2.4, 0.2], [0.001, 5, 0, 3], list(range(1, 300))]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_shares_are_kept_over_any_stretch(weights, seed):
    order = MixtureOrder([50] * len(weights), weights, seed=seed)
    parts, _ = order.at(np.arange(100_000))
    exact = np.array(weights) / sum(weights)
    np.testing.assert_allclose(order.shares, exact)
    for first, last in ((0, 100_000), (0, 1000), (777, 31_234)):
        counted = np.bincount(parts[first:last], minlength=len(weights))
        # whole blocks are off by the sequence's discrepancy, which grows like a logarithm; cut blocks by a few places
        assert np.abs(counted - exact * (last - first)).max() < 12


def test_equal_parts_come_equally_often_in_every_block():
    parts, _ = MixtureOrder([5, 5, 5], [2.0, 2.0, 2.0]).at(np.arange(300))
    assert (np.sort(parts.reshape(100, 3)) == [0, 1, 2]).all()


def test_a_part_of_weight_0_never_comes_and_may_be_empty():
    order = MixtureOrder([0, 5], [0.0, 2.0])
    assert set(order.at(np.arange(100))[0].tolist()) == {1}


@pytest.mark.parametrize("size", [1, 7, 40, 1000])
@pytest.mark.parametrize("weights", [[1.0, 2.0], [0.3, 17.77], [3.0, 0.1]])
def test_every_item_comes_once_per_pass(size, weights):
    """Also the draws of a part are numbered without gaps, far into the order."""
    order = MixtureOrder([size, 3], weights)
    parts, items = order.at(np.arange(40_000))
    drawn = np.bincount(items[parts == 0], minlength=size)
    assert len(drawn) == size
    assert drawn.max() - drawn.min() <= 1


def test_draws_are_counted_without_gaps_by_brute_force():
    """Against counting: the closed form of van der Corput's sequence is easy to get wrong."""
    order = MixtureOrder([10**9, 10**9, 10**9], [0.37, 5.0, 1.01], seed=9)
    blocks = np.arange(5000)
    for bound in order._bounds.tolist():
        below = np.bincount(
            np.repeat(blocks, 3), (np.tile(np.arange(3), 5000) * 2**32 + np.repeat(_offsets(order, blocks), 3) < bound)
        )
        counted = np.concatenate([[0], np.cumsum(below)[:-1]])
        assert (order._slots_before(blocks, np.full(5000, bound)) == counted).all()


def _offsets(order, blocks):
    return np.array([int(f"{number ^ order._shift:032b}"[::-1], 2) for number in blocks.tolist()])


def test_passes_differ():
    order = MixtureOrder([50], [1.0])
    _, items = order.at(np.arange(100))
    assert sorted(items[:50]) == sorted(items[50:]) == list(range(50))
    assert items[:50].tolist() != items[50:].tolist()


def test_items_are_uniform_over_time():
    """Chi-square of items in tenths of a pass."""
    order = MixtureOrder([100_000, 100_000], [1.0, 1.0], seed=3)
    parts, items = order.at(np.arange(200_000))
    chosen = items[parts == 0][:100_000]
    table = np.histogram2d(np.arange(len(chosen)), chosen, bins=10)[0]
    expected = table.sum() / 100
    assert ((table - expected) ** 2 / expected).sum() < 81 + 5 * np.sqrt(2 * 81)


def test_every_stretch_mixes_the_parts():
    order = MixtureOrder([10, 1000], [1.0, 1.0])
    parts, _ = order.at(np.arange(64 * 200))
    per_batch = parts.reshape(200, 64).sum(1)
    assert per_batch.min() > 12
    assert per_batch.max() < 52


def test_a_sample_depends_on_its_number_and_the_seed_alone():
    order = MixtureOrder([10, 20], [1.0, 3.0], seed=5)
    numbers = np.arange(1000)
    parts, items = order.at(numbers)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 (the global state is what this is about)
    shuffled = np.random.default_rng(0).permutation(1000)
    again = MixtureOrder([10, 20], [1.0, 3.0], seed=5).at(shuffled)
    assert (again[0] == parts[shuffled]).all()
    assert (again[1] == items[shuffled]).all()
    other = MixtureOrder([10, 20], [1.0, 3.0], seed=6).at(numbers)
    assert (other[1] != items).any()


def test_the_order_stays_for_ever():
    """Runs resume by it: a change breaks every checkpoint."""
    parts, items = MixtureOrder([10, 1000], [1.0, 3.0], seed=42).at(np.array([0, 1, 2, 10**12]))
    assert (parts.tolist(), items.tolist()) == PINNED


PINNED = ([0, 1, 1, 1], [3, 621, 453, 580])


def test_large_numbers_cost_nothing():
    order = MixtureOrder([10**12, 5], [1e-3, 1.0])
    parts, items = order.at(np.array([10**15, 10**15 + 1]))
    assert ((items >= 0) & (items < np.array([10**12, 5])[parts])).all()


def test_many_parts():
    sizes = np.random.default_rng(0).integers(1, 10_000, 5000)
    order = MixtureOrder(sizes.tolist(), np.sqrt(sizes).tolist())
    start = time.perf_counter()
    order.at(np.arange(20_000))
    assert time.perf_counter() - start < 5  # about 0.05; a search through all parts per sample would take minutes


@pytest.mark.parametrize(
    ("sizes", "weights", "text"),
    [
        ([1], [1, 1], r"one weight per part \(1\), got 2"),
        ([], [], "at least one part"),
        ([1, 1], [0, 0], "not all 0"),
        ([1, 1], [-1, 2], "at least 0"),
        ([1, 1], [float("nan"), 2], "at least 0"),
        ([0, 1], [1, 2], r"got less for parts \[0\]"),
        ([1, 1], [1e-12, 2], "weights must not be that unequal, got 1e-12 among others up to 2"),
    ],
)
def test_refuses_settings(sizes, weights, text):
    with pytest.raises(SettingError, match=text):
        MixtureOrder(sizes, weights)


def test_refuses_negative_numbers():
    with pytest.raises(SettingError, match="numbers must be at least 0, got -3"):
        MixtureOrder([1], [1]).at(np.array([-3]))
