"""Many data sets as one, of which only a few are open at a time."""

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from vla_kit.data._name import check_name
from vla_kit.data.any_sample import AnySample
from vla_kit.errors import DataError, SettingError

__all__ = ["LazyParts", "Part"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A share of a mixture: items of one data set, which is opened when one of them is asked for.

    Args:
        name: Name of the part, its own in the mixture; the data set's name where the data set is one part.
        dataset: Name of the data set. Parts of one data set share its reader.
        location: Where the data set lies.
        fingerprint: Digest of the data set, see `EpisodeReader`.
        embodiment: Name of the robot; empty for conversations.
        instruction: The sentence of all items, where the part is a task; None where it is a whole data set.
        length: Number of items, at least 1.
        weight: Share of the mixture as given, at least 0, relative to other parts.
        open: Opens the data set: an `EpisodeReader`, or a `ConversationSource`. Give parts of one data set the same
            function.
        windows: Makes items of the opened data set, `length` of them.

    Raises:
        SettingError: If `length` is below 1, `weight` is negative or infinite, or `name` or `dataset` is empty.
    """

    name: str
    dataset: str
    location: str
    fingerprint: str
    embodiment: str
    instruction: str | None = None
    length: int
    weight: float = 1.0
    open: Callable[[], Any]
    windows: Callable[[Any], Dataset[AnySample]]

    def __post_init__(self) -> None:
        check_name("name", self.name)
        check_name("dataset", self.dataset)
        if self.length < 1:
            raise SettingError(f"length must be at least 1, got {self.length} for {self.name}. Leave the part out.")
        if not 0 <= self.weight < math.inf:
            raise SettingError(
                f"weight must be at least 0 and finite, got {self.weight} for {self.name}. Use 0 to leave it out."
            )


class LazyParts(Dataset[AnySample]):
    """The items of all parts in a row. Data sets are opened when needed and closed again, the longest unused first.

    Args:
        parts: The parts.
        open_sets: Data sets that are open at a time, in each process that loads. More cost memory, fewer cost the time
            of opening.

    Raises:
        SettingError: If there is no part, names repeat, or `open_sets` is below 1.

    Examples:
        >>> from vla_kit.data.memory_source import MemoryEpisode, MemorySource
        >>> from vla_kit.data.robot_reader import RobotReader
        >>> from vla_kit.data.windows import ChunkDataset
        >>> def opened():
        ...     return RobotReader(MemorySource([MemoryEpisode(columns={"action": np.eye(2)})]), embodiment="arm")
        >>> parts = LazyParts([
        ...     Part(name="eye", dataset="memory", location="memory:memory", fingerprint="", embodiment="arm", length=2,
        ...          open=opened, windows=lambda reader: ChunkDataset(reader, horizon=1))])
        >>> len(parts), parts[1].actions.tolist()
        (2, [[0.0, 1.0]])
    """

    def __init__(self, parts: Sequence[Part], *, open_sets: int = 32) -> None:
        if not parts:
            raise SettingError("parts must hold at least one part, got none. List the data to train on.")
        if open_sets < 1:
            raise SettingError(f"open_sets must be at least 1, got {open_sets}. Use 32.")
        _check_names(parts)
        self.parts = tuple(parts)
        self.open_sets = open_sets
        self._ends = np.cumsum([part.length for part in parts])
        self._open: OrderedDict[str, tuple[Any, dict[int, Dataset[AnySample]]]] = OrderedDict()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, item: int) -> AnySample:
        part = int(np.searchsorted(self._ends, item, side="right"))
        if not 0 <= item < len(self):
            raise IndexError(f"item must lie in [0, {len(self)}), got {item}. Choose one there.")
        return self.sample(part, item - int(self._ends[part]) + self.parts[part].length)

    def sample(self, part: int, item: int) -> AnySample:
        """An item of a part.

        Raises:
            DataError: If it cannot be read, or the data set has changed since it was first opened.
        """
        return self.samples(part, [item])[0]

    def samples(self, part: int, items: Sequence[int]) -> list[AnySample]:
        """Items of a part, read together where its data set can.

        Raises:
            DataError: If one cannot be read, or the data set has changed since it was first opened.
        """
        dataset: Any = self._items(part)
        if hasattr(dataset, "__getitems__"):
            found: list[AnySample] = dataset.__getitems__(items)
            return found
        return [dataset[item] for item in items]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict()}

    def _items(self, index: int) -> Dataset[AnySample]:
        part = self.parts[index]
        if part.dataset not in self._open:
            while len(self._open) >= self.open_sets:
                self._open.popitem(last=False)
            self._open[part.dataset] = (part.open(), {})
        self._open.move_to_end(part.dataset)
        reader, items = self._open[part.dataset]
        if index not in items:
            made: Any = part.windows(reader)
            if len(made) != part.length:
                raise DataError(
                    f"{part.location} must not change while it is used, got {len(made)} items in place of "
                    f"{part.length}. Start again."
                )
            items[index] = made
        return items[index]


def _check_names(parts: Sequence[Part]) -> None:
    names: dict[str, Part] = {}
    sets: dict[str, Part] = {}
    for part in parts:
        if part.name in names:
            places = sorted({names[part.name].location, part.location})
            raise SettingError(
                f"parts must have names of their own, got {part.name!r} twice, of {' and '.join(places)}. Name one "
                "apart with name."
            )
        other = sets.setdefault(part.dataset, part)
        if other.open is not part.open and other.open != part.open:
            raise SettingError(
                f"data sets must have names of their own, got {part.dataset!r} for {other.location} and for "
                f"{part.location}. Name one apart with name."
            )
        names[part.name] = part
