"""What open data sets keep in memory, under one budget for the whole process."""

import itertools
import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, TypeVar

from vla_kit.data.video import VideoDecoder

__all__ = ["ARRAYS", "DECODERS", "TABLES", "SharedCache", "new_owner"]

_Value = TypeVar("_Value")


class SharedCache(Generic[_Value]):
    """The values that were used last, of all owners of this process together.

    A mixture has hundreds of sets; if each kept its own, memory would grow with their number. The value that was made
    last is always kept, even where it alone exceeds the budget.

    Args:
        budget: Sum of the costs of all values that are kept.

    Examples:
        >>> cache = SharedCache(budget=2)
        >>> [cache.get((0, key), lambda: ("value", 1)) for key in "abc"]
        ['value', 'value', 'value']
        >>> len(cache)
        2
    """

    def __init__(self, *, budget: float) -> None:
        self._budget = budget
        self._spent = 0.0
        self._values: OrderedDict[tuple[Any, ...], tuple[_Value, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    @property
    def spent(self) -> float:
        """Sum of the costs of the values that are kept now."""
        return self._spent

    def get(self, key: tuple[Any, ...], make: Callable[[], tuple[_Value, float]]) -> _Value:
        """The value under a key, made where it is not kept.

        Args:
            key: Owner, then whatever tells its values apart.
            make: Gives the value and its cost.
        """
        entry = self._values.get(key)
        if entry is None:
            entry = self._values[key] = make()
            self._spent += entry[1]
            while self._spent > self._budget and len(self._values) > 1:
                self._spent -= self._values.popitem(last=False)[1][1]
        else:
            self._values.move_to_end(key)
        return entry[0]

    def forget(self, owner: int) -> None:
        """Drop the values of an owner."""
        for key in [key for key in self._values if key[0] == owner]:
            self._spent -= self._values.pop(key)[1]

    def abandon(self) -> None:
        """Leave every value alone for good, without freeing it."""
        _INHERITED.append(self._values)
        self._values, self._spent = OrderedDict(), 0.0


# Forked: open files belong to the parent. Freeing a decoder would wait for threads that were not forked.
_INHERITED: Final[list[object]] = []

ARRAYS: Final[SharedCache[Any]] = SharedCache(budget=128 * 2**20)
"""Unpacked columns and packed images, in bytes."""

TABLES: Final[SharedCache[Any]] = SharedCache(budget=32)
"""Open parquet files."""

DECODERS: Final[SharedCache[VideoDecoder]] = SharedCache(budget=32)
"""Open videos, some megabytes each."""

os.register_at_fork(after_in_child=DECODERS.abandon)
os.register_at_fork(after_in_child=TABLES.abandon)

_OWNERS: Final[Iterator[int]] = itertools.count()


def new_owner(owner: object) -> int:
    """A number for keys of the caches, whose values go when `owner` does.

    Args:
        owner: The object whose values they are.
    """
    number = next(_OWNERS)
    finalizer = weakref.finalize(owner, _forget, number)
    finalizer.atexit = False
    return number


def _forget(number: int) -> None:
    for cache in (ARRAYS, TABLES, DECODERS):
        cache.forget(number)
