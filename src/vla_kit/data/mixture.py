"""Several data sets in every batch: the endless stream of samples that a run trains on."""

import hashlib
from collections.abc import Sequence

import numpy as np

from vla_kit.data.any_sample import AnySample
from vla_kit.data.lazy_parts import LazyParts, Part
from vla_kit.data.order import MixtureOrder

__all__ = ["Mixture"]


class Mixture:
    """Samples of several parts in proportion to their weights, by number.

    Sample `k` is the same in every process and on every start; see `MixtureOrder`.

    Args:
        parts: The parts; those of weight 0 are left out.
        weights: Weight of each part in place of its own, at least 0.
        seed: Of the order.
        open_sets: Data sets that are open at a time in each process, see `LazyParts`.

    Raises:
        SettingError: If there is no part, names repeat, or weights are negative or all 0.

    Examples:
        >>> from vla_kit.data.memory_source import MemoryEpisode, MemorySource
        >>> from vla_kit.data.robot_reader import RobotReader
        >>> from vla_kit.data.windows import ChunkDataset
        >>> def opened():
        ...     return RobotReader(MemorySource([MemoryEpisode(columns={"action": np.eye(2)})]), embodiment="arm")
        >>> mixture = Mixture([
        ...     Part(name="eye", dataset="memory", location="memory:memory", fingerprint="", embodiment="arm", length=2,
        ...          open=opened, windows=lambda reader: ChunkDataset(reader, horizon=1))])
        >>> sorted(sample.frame for sample in mixture.samples([0, 1]))
        [0, 1]
        >>> mixture.shares
        {'eye': 1.0}
    """

    def __init__(
        self, parts: Sequence[Part], *, weights: Sequence[float] | None = None, seed: int = 0, open_sets: int = 32
    ) -> None:
        chosen = [part.weight for part in parts] if weights is None else list(weights)
        self._order = MixtureOrder([part.length for part in parts], chosen, seed=seed)
        self._items = LazyParts(parts, open_sets=open_sets)
        self.seed = seed

    def __len__(self) -> int:
        """Different samples; numbers go on beyond, into further passes."""
        return len(self._items)

    @property
    def shares(self) -> dict[str, float]:
        """Name of a part -> its share of the samples."""
        return {part.name: share for part, share in zip(self._items.parts, self._order.shares, strict=True)}

    @property
    def fingerprints(self) -> dict[str, str]:
        """Name of a part -> digest of its data, length, share and the seed. Where all are equal, so are all samples."""
        return {
            part.name: _digest(part.fingerprint, part.length, share, self.seed)
            for part, share in zip(self._items.parts, self._order.shares, strict=True)
        }

    def samples(self, numbers: Sequence[int]) -> list[AnySample]:
        """Samples by number. Items that lie close to each other are read together.

        Args:
            numbers: Numbers from 0, without end.

        Returns:
            The samples, in the order of `numbers`.

        Raises:
            DataError: If one of them cannot be read.
        """
        parts, items = self._order.at(np.asarray(numbers, dtype=np.int64))
        found: dict[int, AnySample] = {}
        places = np.lexsort((items, parts))
        for members in np.split(places, np.flatnonzero(np.diff(parts[places])) + 1):
            if len(members):
                read = self._items.samples(int(parts[members[0]]), items[members].tolist())
                found.update(zip(members.tolist(), read, strict=True))
        return [found[place] for place in range(len(found))]


def _digest(*facts: str | float) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
