"""Drop episodes in which the robot is told to do nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_kit.data.cleaning.examined_episode import ExaminedEpisode
from vla_kit.data.cleaning.rule import Judgement, Limit, Measurement
from vla_kit.data.cleaning.rules._settings import check_threshold

__all__ = ["StaticActions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticActions:
    """Standard deviation over time of the action channel that moves most.

    Constant channels do no harm: one channel that moves is enough.

    Args:
        threshold: Smallest standard deviation that stays [native unit]. The default suits rad, m and actions in
            [-1, 1]; give a larger one for degrees or millimetres.

    Raises:
        SettingError: If `threshold` is negative or not finite.

    Examples:
        >>> StaticActions().limit
        Limit(threshold=0.001, drops='below')

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.1, drops near-zero-variance actions without giving a number. 1e-3 is
        what FineVLA (arXiv 2605.27284, same group) calls a static trajectory in its released filter.
    """

    threshold: float = 1e-3

    def __post_init__(self) -> None:
        check_threshold(self.threshold)

    @property
    def name(self) -> str:
        """Key in the decision file."""
        return "static_actions"

    @property
    def quantity(self) -> str:
        """What is measured."""
        return "largest standard deviation of an action channel [native unit]"

    @property
    def limit(self) -> Limit:
        """Which values drop an episode."""
        return Limit(self.threshold, drops="below")

    def measure(self, episode: ExaminedEpisode) -> Measurement | None:
        """Standard deviation of the liveliest channel."""
        return Measurement(np.array(episode.actions.std(axis=0).max())) if len(episode) else None

    def judge(self, measured: Sequence[Measurement | None]) -> Judgement:
        """The deviations as they were measured."""
        return Judgement.of_single_numbers(measured)
