"""In which order the samples of a mixture come: a function of their number and of a seed, of nothing else."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Int, UInt64
from numpy import ndarray

from vla_kit.data._permutation import permute, shuffle_keys
from vla_kit.errors import SettingError

__all__ = ["MixtureOrder"]

_BITS: Final = 32
_ONE: Final = 1 << _BITS
_PLACES, _ITEMS, _SHIFT = 1, 2, 3


class MixtureOrder:
    """An endless order over parts of a mixture. Sample `k` is known without the samples before it.

    So a run resumes by one number, ranks and workers never share a sample, and nothing is stored per item.

    Numbers come in short blocks. Each block gives every part its share of places, rounded to whole ones up or down so
    that the shares are kept over any stretch, and the places are shuffled. A part's items come in passes, every item
    once in each; only within a block may the end of a pass and the beginning of the next interleave.

    Args:
        sizes: Items of each part, at least 1 where its weight is above 0.
        weights: Weight of each part, at least 0; only their ratios count.
        seed: Of every shuffle.

    Raises:
        SettingError: If counts differ, a weight is negative or not finite, none is above 0, one is a billion times
            smaller than the others, or a part that is drawn has no items.

    Examples:
        >>> order = MixtureOrder([2, 1000], [1.0, 3.0], seed=0)
        >>> parts, items = order.at(np.arange(8))
        >>> np.bincount(parts).tolist(), sorted(items[parts == 0].tolist())
        ([2, 6], [0, 1])
        >>> bool((order.at(np.array([5]))[1] == items[5]).all())
        True

    Source:
        Qwen-VLA, arXiv 2605.30280, section 2.5: every mini-batch mixes all tasks at a fixed ratio. How is ours:
        systematic sampling within a block, whose offset runs through van der Corput's sequence (1935) from block to
        block, for how often it was below a bound has a closed form.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], *, seed: int = 0) -> None:
        if len(sizes) != len(weights) or not len(sizes):
            raise SettingError(
                f"weights must hold one weight per part ({len(sizes)}), got {len(weights)}. Give at least one part."
            )
        chosen = np.asarray(weights, dtype=np.float64)
        if not np.isfinite(chosen).all() or (chosen < 0).any() or not chosen.sum() > 0:
            raise SettingError(
                f"weights must be at least 0, finite and not all 0, got {list(weights)}. Use 1 for equal shares."
            )
        drawn = chosen > 0
        empty = [index for index, size in enumerate(sizes) if size < 1 and drawn[index]]
        if empty:
            raise SettingError(
                f"sizes must be at least 1 for every part that is drawn, got less for parts {empty}. Leave them out."
            )
        self.seed = seed
        self._sizes = np.asarray(sizes, dtype=np.int64)
        self._shares = chosen / chosen.sum()
        self._block = int(drawn.sum())
        bounds = np.rint(np.concatenate([[0.0], np.cumsum(chosen)]) / chosen.sum() * self._block * _ONE)
        self._bounds = bounds.astype(np.int64)
        if (np.diff(self._bounds)[drawn] < 1).any():
            raise SettingError(
                f"weights must not be that unequal, got {chosen[drawn].min()} among others up to "
                f"{chosen.max()}. Use 0 to leave a part out."
            )
        self._shift = int(shuffle_keys(seed, _SHIFT)[0]) % _ONE

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of the samples that each part gets."""
        return tuple(self._shares.tolist())

    def at(self, numbers: Int[ndarray, " sample"]) -> tuple[Int[ndarray, " sample"], Int[ndarray, " sample"]]:
        """Part and item of samples.

        Args:
            numbers: Numbers of samples, from 0 and without end.

        Returns:
            Part of each sample, and the index of its item in the part.

        Raises:
            SettingError: If a number is negative.
        """
        if (numbers < 0).any():
            raise SettingError(f"numbers must be at least 0, got {numbers.min()}. Samples are counted from 0.")
        blocks, places = np.divmod(numbers.astype(np.int64), self._block)
        slots = permute(places, self._block, shuffle_keys(self.seed, _PLACES, blocks))
        offsets = _reversed((blocks % _ONE) ^ self._shift, _BITS)
        parts = np.searchsorted(self._bounds, slots * _ONE + offsets, side="right") - 1
        begin, end = self._bounds[parts], self._bounds[parts + 1]
        first_slot = (begin - offsets + _ONE - 1) // _ONE
        draws = self._slots_before(blocks, end) - self._slots_before(blocks, begin) + slots - first_slot
        passes, turns = np.divmod(draws, self._sizes[parts])
        return parts, permute(turns, self._sizes[parts], shuffle_keys(self.seed, _ITEMS, parts, passes))

    def _slots_before(self, blocks: Int[ndarray, " sample"], bounds: Int[ndarray, " sample"]) -> ndarray:
        """How many slots of all earlier blocks lie below a bound."""
        whole, rest = np.divmod(bounds, _ONE)
        slots: Int[ndarray, " sample"] = blocks * whole + _offsets_below(rest, blocks, self._shift)
        return slots


def _offsets_below(bounds: Int[ndarray, " sample"], blocks: Int[ndarray, " sample"], shift: int) -> ndarray:
    """How many of the blocks before `blocks` have an offset below `bounds`.

    The blocks before fall into ranges of 2^bit blocks, aligned to their size. In each, the upper bits of the offsets
    run through all values, and the lower ones are fixed.
    """
    periods, rest = np.divmod(blocks, _ONE)
    bit = np.arange(int(rest.max(initial=0)).bit_length())[:, None]
    fixed = _reversed((rest >> bit) ^ 1 ^ (shift >> bit), _BITS - bit)
    step = 1 << (_BITS - bit)
    below = np.maximum((bounds - fixed + step - 1) // step, 0)
    count: Int[ndarray, " sample"] = periods * bounds + (((rest >> bit) & 1) * below).sum(axis=0)
    return count


def _reversed(numbers: Int[ndarray, "*bit sample"], bits: Int[ndarray, "bit 1"] | int) -> Int[ndarray, "*bit sample"]:
    """The lowest `bits` bits, at most 32, in the opposite order."""
    turned: UInt64[ndarray, "*bit sample"] = numbers.astype(np.uint64) << np.asarray(_BITS - bits, dtype=np.uint64)
    for width, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF), (16, 0x0000FFFF)):
        low, shift = np.uint64(mask), np.uint64(width)
        turned = ((turned >> shift) & low) | ((turned & low) << shift)
    return turned.astype(np.int64)
