"""Which seeds record demonstrations and which evaluate, so that no scene is in both."""

from collections.abc import Sequence
from typing import Final

from vla_kit.envs.seeds import EVALUATION_SEEDS_FROM
from vla_kit.errors import SettingError

__all__ = ["EVALUATION_SEEDS_FROM", "TRAINING_SEEDS_FROM", "check_evaluation_seeds", "evaluation_seeds"]

TRAINING_SEEDS_FROM: Final = 10_000
"""First seed of recorded demonstrations."""


def evaluation_seeds(count: int, *, offset: int = 0) -> range:
    """Seeds of an evaluation, the same for everyone who asks for as many.

    Args:
        count: Episodes, at least 1.
        offset: Seeds to skip, at least 0, for a second independent set.

    Returns:
        Consecutive seeds from `EVALUATION_SEEDS_FROM` on.

    Raises:
        SettingError: If `count` is below 1 or `offset` is negative.

    Examples:
        >>> evaluation_seeds(3)
        range(1000000, 1000003)
    """
    if count < 1:
        raise SettingError(f"count must be at least 1, got {count}. Run an episode at least.")
    if offset < 0:
        raise SettingError(f"offset must be at least 0, got {offset}. Skip none with 0.")
    return range(EVALUATION_SEEDS_FROM + offset, EVALUATION_SEEDS_FROM + offset + count)


def check_evaluation_seeds(seeds: Sequence[int]) -> list[int]:
    """Return the seeds if none of them may have been trained on.

    Args:
        seeds: At least one, none twice.

    Returns:
        The seeds as a list.

    Raises:
        SettingError: If there is none, one is repeated, or one lies below `EVALUATION_SEEDS_FROM`.

    Examples:
        >>> check_evaluation_seeds([1_000_000])
        [1000000]
    """
    found = [int(seed) for seed in seeds]
    if not found:
        raise SettingError("seeds must hold at least one seed, got none. Use evaluation_seeds(count).")
    if len(set(found)) < len(found):
        raise SettingError("seeds must differ from each other, got one twice. Use evaluation_seeds(count).")
    if min(found) < EVALUATION_SEEDS_FROM:
        raise SettingError(
            f"seeds must be at least {EVALUATION_SEEDS_FROM}, got {min(found)}. "
            "Lower ones record demonstrations; use evaluation_seeds(count)."
        )
    return found
