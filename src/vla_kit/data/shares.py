"""How often the parts of a mixture are drawn."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from vla_kit.data.lazy_parts import Part

__all__ = ["Shares"]


@runtime_checkable
class Shares(Protocol):
    """A rule that gives each part of a mixture its weight."""

    def needs_tasks(self) -> bool:
        """Whether each sentence of a data set is a part of its own; else a data set is one part."""
        ...

    def weights(self, parts: Sequence[Part]) -> list[float]:
        """Weight of each part, at least 0. Only ratios count."""
        ...
