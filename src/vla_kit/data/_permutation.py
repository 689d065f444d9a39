"""Shuffles without memory: where a number goes is computed, not looked up."""

from typing import Final

import numpy as np
from jaxtyping import Int, UInt64
from numpy import ndarray

from vla_kit.errors import SettingError

__all__ = ["permute", "shuffle_keys"]

_ROUNDS: Final = 16  # fewer shuffle ranges of five or six numbers unevenly
_MASK: Final = (1 << 64) - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15


def shuffle_keys(seed: int, *parts: Int[ndarray, " number"] | int) -> UInt64[ndarray, " number"]:
    """Key of a shuffle for each row of numbers; other numbers give unrelated keys.

    Args:
        seed: Any integer.
        parts: What else names the shuffle, such as the number of a pass; arrays of one length, or single numbers.

    Returns:
        One key per number, the same on every machine.

    Examples:
        >>> first, second = shuffle_keys(0, np.array([3, 4]))
        >>> bool(first == shuffle_keys(0, np.array([3]))[0]), bool(first == second)
        (True, False)
    """
    key = np.full(1, seed & _MASK, dtype=np.uint64)
    for part in parts:
        key = _mixed(key * np.uint64(_GOLDEN) + np.atleast_1d(np.asarray(part)).astype(np.uint64))
    return _mixed(key)


def permute(
    numbers: Int[ndarray, " number"], sizes: Int[ndarray, " number"] | int, key: UInt64[ndarray, " number"]
) -> Int[ndarray, " number"]:
    """Where a keyed shuffle of `range(size)` puts each number.

    Nothing is stored, so a shuffle of a billion numbers costs what one of ten does. Every row may have a size and a key
    of its own.

    Args:
        numbers: Numbers in [0, size).
        sizes: Length of each shuffled range, at least 1.
        key: From `shuffle_keys`, one per number or one for all.

    Returns:
        Numbers in [0, size). Over one size and key, every number is hit exactly once.

    Raises:
        SettingError: If a number lies outside its range.

    Examples:
        >>> sorted(permute(np.arange(5), 5, shuffle_keys(7)).tolist())
        [0, 1, 2, 3, 4]

    Source:
        Feistel network with cycle walking: Black and Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002.
        The round function is the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
    """
    numbers, sizes, key = np.broadcast_arrays(np.atleast_1d(numbers), np.asarray(sizes), key)
    outside = (numbers < 0) | (numbers >= sizes)
    if outside.any():
        first = int(np.argmax(outside))
        raise SettingError(
            f"numbers must lie in [0, size), got {numbers[first]} for a size of {sizes[first]}. Give a place in range."
        )
    bits = np.frexp((sizes - 1).astype(np.float64))[1].astype(np.uint64)  # exact below 2^53
    low = bits // np.uint64(2)
    result, limits = numbers.astype(np.uint64), sizes.astype(np.uint64)
    walking = np.flatnonzero(sizes > 1)
    while len(walking):
        result[walking] = _network(result[walking], key[walking], low[walking], (bits - low)[walking])
        walking = walking[result[walking] >= limits[walking]]
    return result.astype(np.int64)


def _network(
    numbers: UInt64[ndarray, " number"],
    key: UInt64[ndarray, " number"],
    low_bits: UInt64[ndarray, " number"],
    high_bits: UInt64[ndarray, " number"],
) -> UInt64[ndarray, " number"]:
    """A shuffle of all numbers of `low_bits + high_bits` bits: either half in turn is changed by the other."""
    one = np.uint64(1)
    low_mask, high_mask = (one << low_bits) - one, (one << high_bits) - one
    low, high = numbers & low_mask, numbers >> low_bits
    for turn in range(_ROUNDS):
        salt = np.uint64((turn + 1) * _GOLDEN & _MASK)
        if turn % 2:
            low = low ^ (_mixed(high + (key ^ salt)) & low_mask)
        else:
            high = high ^ (_mixed(low + (key ^ salt)) & high_mask)
    both: UInt64[ndarray, " number"] = (high << low_bits) | low
    return both


def _mixed(numbers: UInt64[ndarray, " number"]) -> UInt64[ndarray, " number"]:
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: UInt64[ndarray, " number"] = numbers ^ (numbers >> np.uint64(31))
    return mixed
