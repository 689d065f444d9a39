import math
from collections import Counter

import numpy as np
import pytest

from vla_kit.data._permutation import permute, shuffle_keys
from vla_kit.errors import SettingError


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 17, 64, 65, 1000, 4097])
def test_every_number_is_hit_once(size):
    assert sorted(permute(np.arange(size), size, shuffle_keys(3, size)).tolist()) == list(range(size))


def test_rows_may_have_sizes_and_keys_of_their_own():
    sizes = np.array([3, 10, 3, 10**12])
    numbers = np.array([2, 7, 2, 10**11])
    key = shuffle_keys(0, np.array([0, 1, 2, 3]))
    together = permute(numbers, sizes, key)
    alone = [permute(numbers[i : i + 1], sizes[i : i + 1], key[i : i + 1])[0] for i in range(4)]
    assert together.tolist() == alone
    assert (together < sizes).all()


@pytest.mark.parametrize("size", [3, 4, 5, 6])
def test_all_shuffles_are_equally_likely(size):
    """Chi-square over all orders of a small range, against its own 5 standard deviations."""
    draws, orders = 24_000, math.factorial(size)
    key = shuffle_keys(1, np.arange(draws))
    columns = [permute(np.full(draws, number), size, key).tolist() for number in range(size)]
    seen = Counter(zip(*columns, strict=True))
    expected = draws / orders
    chi_square = sum((count - expected) ** 2 / expected for count in seen.values()) + expected * (orders - len(seen))
    assert abs(chi_square - (orders - 1)) < 5 * math.sqrt(2 * (orders - 1))


def test_neighbours_part():
    places = permute(np.arange(100_000), 100_000, shuffle_keys(0))
    assert abs(np.corrcoef(places[:-1], places[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(np.arange(100_000), places)[0, 1]) < 0.02


def test_the_values_stay_for_ever():
    """Runs resume by these numbers: a change breaks every checkpoint."""
    assert permute(np.arange(10), 10, shuffle_keys(42)).tolist() == PINNED


PINNED = [9, 6, 8, 0, 4, 7, 1, 5, 3, 2]


def test_refuses_numbers_outside():
    with pytest.raises(SettingError, match=r"numbers must lie in \[0, size\), got 5 for a size of 5"):
        permute(np.array([1, 5]), 5, shuffle_keys(0))
