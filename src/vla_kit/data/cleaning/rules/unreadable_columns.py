"""Drop episodes whose actions or state cannot be read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_kit.data.cleaning.examined_episode import ExaminedEpisode
from vla_kit.data.cleaning.rule import Judgement, Limit, Measurement
from vla_kit.data.cleaning.rules._settings import check_threshold
from vla_kit.errors import DataError

__all__ = ["UnreadableColumns"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableColumns:
    """Number of the columns of actions and state that cannot be read, hold NaN or have not one row per frame.

    Args:
        threshold: Largest number that stays.

    Raises:
        SettingError: If `threshold` is negative or not finite.

    Examples:
        >>> UnreadableColumns().limit.violated_by(1)
        True

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.1 (corrupted or missing frames).
    """

    threshold: float = 0.0

    def __post_init__(self) -> None:
        check_threshold(self.threshold)

    @property
    def name(self) -> str:
        """Key in the decision file."""
        return "unreadable_columns"

    @property
    def quantity(self) -> str:
        """What is measured."""
        return "columns of numbers that cannot be read"

    @property
    def limit(self) -> Limit:
        """Which values drop an episode."""
        return Limit(self.threshold)

    def measure(self, episode: ExaminedEpisode) -> Measurement | None:
        """Read every column that has a role."""
        return Measurement(np.array(float(sum(not _is_readable(episode, key) for key in episode.columns))))

    def judge(self, measured: Sequence[Measurement | None]) -> Judgement:
        """The numbers as they were measured."""
        return Judgement.of_single_numbers(measured)


def _is_readable(episode: ExaminedEpisode, key: str) -> bool:
    try:
        values = episode.column(key)
    except (DataError, OSError):
        return False
    return len(values) == len(episode) and bool(np.isfinite(values).all())
