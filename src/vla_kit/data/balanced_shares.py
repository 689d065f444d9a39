"""Equal shares for robots, tasks or both, however much data each has."""

from collections.abc import Sequence
from typing import Literal

from vla_kit.data.lazy_parts import Part
from vla_kit.errors import SettingError

__all__ = ["BalancedShares"]


class BalancedShares:
    """Every robot is drawn equally often, or every task, or within every robot every task; satisfies `Shares`.

    A task is the sentence of an episode, its first where it has several. What is equal in all of `by` shares in
    proportion to its weights as given.

    Args:
        by: What gets equal shares, the coarsest first: `embodiment`, `dataset`, `instruction`.

    Raises:
        SettingError: If `by` is empty or names something else, or something twice.

    Examples:
        >>> def part(name, embodiment, weight):
        ...     return Part(name=name, dataset=name, location=name, fingerprint="", embodiment=embodiment, length=9,
        ...                 weight=weight, open=lambda: None, windows=lambda reader: None)
        >>> parts = [part("a", "arm", 3.0), part("b", "arm", 1.0), part("c", "crane", 9.0)]
        >>> BalancedShares(["embodiment"]).weights(parts)
        [0.375, 0.125, 0.5]

    Source:
        Qwen-VLA, arXiv 2605.30280, section 4.1: SFT samples embodiments and tasks in balance. How is not published.
    """

    def __init__(self, by: Sequence[Literal["embodiment", "dataset", "instruction"]] = ("embodiment",)) -> None:
        known = ["embodiment", "dataset", "instruction"]
        if not by or len(set(by)) < len(by) or not set(by) <= set(known):
            raise SettingError(f"by must name some of {known}, each once, got {list(by)}. Use [embodiment].")
        self.by = tuple(by)

    def needs_tasks(self) -> bool:
        """Whether `by` names the instruction."""
        return "instruction" in self.by

    def weights(self, parts: Sequence[Part]) -> list[float]:
        """Weight of each part; they sum to 1, and one of weight 0 keeps 0."""
        return _divided(parts, self.by, 1.0)


def _divided(parts: Sequence[Part], by: Sequence[str], share: float) -> list[float]:
    if not by:
        total = sum(part.weight for part in parts)
        return [share * part.weight / total if total else 0.0 for part in parts]
    groups: dict[object, list[int]] = {}
    for index, part in enumerate(parts):
        groups.setdefault(getattr(part, by[0]), []).append(index)
    drawn = sum(any(parts[index].weight for index in members) for members in groups.values())
    weights = [0.0] * len(parts)
    for members in groups.values():
        for index, weight in zip(members, _divided([parts[i] for i in members], by[1:], share / drawn), strict=True):
            weights[index] = weight
    return weights
