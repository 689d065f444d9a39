"""Fixed shares for families of data sets, and the paper's."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

from vla_kit.data.lazy_parts import Part
from vla_kit.errors import SettingError

__all__ = ["PAPER_SHARES", "FamilyShares", "paper_shares"]

PAPER_SHARES: Final[Mapping[str, float]] = {
    "robot_manipulation": 74.2,
    "human_egocentric": 6.0,
    "navigation": 7.5,
    "synthetic_simulation": 3.7,
    "general_vision_language": 3.4,
    "spatial_grounding": 2.5,
    "driving": 2.4,
    "action_captions": 0.2,
}
"""Family -> share of the paper's pretraining mixture [%]; they sum to 99.9 by rounding."""


class FamilyShares:
    """Every family of data sets has a share, which its sets divide by their weights; satisfies `Shares`.

    Args:
        families: Name of a data set -> its family.
        shares: Family -> share, at least 0. Only ratios count; a family without data leaves its share to the others.

    Raises:
        SettingError: If a share is negative or infinite, or a family has none; (in use) if a data set has no family.

    Examples:
        >>> def part(name, weight):
        ...     return Part(name=name, dataset=name, location=name, fingerprint="", embodiment="arm", length=9,
        ...                 weight=weight, open=lambda: None, windows=lambda reader: None)
        >>> shares = FamilyShares({"a": "real", "b": "real", "c": "made"}, shares={"real": 80, "made": 20})
        >>> shares.weights([part("a", 3.0), part("b", 1.0), part("c", 1.0)])
        [60.0, 20.0, 20.0]

    Source:
        Qwen-VLA, arXiv 2605.30280, table 1. Shares within a family are not published; we take the weights as given.
    """

    def __init__(self, families: Mapping[str, str], *, shares: Mapping[str, float]) -> None:
        unknown = sorted(set(families.values()) - set(shares))
        if unknown:
            raise SettingError(f"families must be among {sorted(shares)}, got {unknown}. Check the spelling.")
        negative = {family: share for family, share in shares.items() if not 0 <= share < math.inf}
        if negative:
            raise SettingError(f"shares must be at least 0 and finite, got {negative}. Use 0 to leave a family out.")
        self.families = dict(families)
        self.shares = dict(shares)

    def needs_tasks(self) -> bool:
        """No: a data set is one part."""
        return False

    def weights(self, parts: Sequence[Part]) -> list[float]:
        """Weight of each part."""
        missing = sorted({part.dataset for part in parts} - set(self.families))
        if missing:
            raise SettingError(
                f"families must name every data set, got none for {missing}. Choose one of {sorted(self.shares)} each."
            )
        totals: dict[str, float] = {}
        for part in parts:
            family = self.families[part.dataset]
            totals[family] = totals.get(family, 0.0) + part.weight
        of = [(part.weight, self.families[part.dataset]) for part in parts]
        return [self.shares[family] * weight / totals[family] if weight else 0.0 for weight, family in of]


def paper_shares(families: Mapping[str, str]) -> FamilyShares:
    """The shares of the paper's pretraining mixture, `PAPER_SHARES`.

    Args:
        families: Name of a data set -> its family, a key of `PAPER_SHARES`.

    Examples:
        >>> paper_shares({"bridge": "robot_manipulation"}).shares["navigation"]
        7.5

    Source:
        Qwen-VLA, arXiv 2605.30280, table 1 (sampling shares of continued pretraining).
    """
    return FamilyShares(families, shares=PAPER_SHARES)
