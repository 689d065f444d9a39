"""Drop episodes that grasp fewer times than their sentence has objects."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_kit.data.cleaning.examined_episode import ExaminedEpisode
from vla_kit.data.cleaning.rule import Judgement, Limit, Measurement
from vla_kit.data.cleaning.rules._grips import NO_GRIPPER, gripped, measure_grips, told_count
from vla_kit.data.cleaning.rules._settings import check_channels, check_threshold

__all__ = ["ContradictedCount"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContradictedCount:
    """How often the gripper opens and closes, as a share of what the objects of the sentence need.

    Moving n objects one by one takes n grasps and n - 1 releases before the last, so 2 n - 1 changes, summed over the
    grippers. The number is that after a word such as pick, move or put: "pick up both cups", "put the 3 blocks away".
    Sentences without one have no value. Objects that are grasped together, or pushed, need fewer: keep such episodes
    by hand, or leave the rule out.

    Args:
        threshold: Smallest share that stays.
        channels: Channels of the actions that are grippers, counted from 0; those with "grip" in their names where
            None.

    Raises:
        SettingError: If `threshold` is out of range or a channel negative; when measured, if a channel does not exist.

    Examples:
        >>> ContradictedCount().limit
        Limit(threshold=1.0, drops='below')

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.1, drops language that is inconsistent with the motion and does not say
        how it is found. This measure is ours.
    """

    threshold: float = 1.0
    channels: Sequence[int] | None = None

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        check_channels(self.channels)

    @property
    def name(self) -> str:
        """Key in the decision file."""
        return "contradicted_count"

    @property
    def quantity(self) -> str:
        """What is measured."""
        return "changes of the grippers [share of those that the objects of the sentence need]"

    @property
    def limit(self) -> Limit:
        """Which values drop an episode."""
        return Limit(self.threshold, drops="below")

    def measure(self, episode: ExaminedEpisode) -> Measurement | None:
        """Range and changes of the grippers, and the sentence."""
        return measure_grips(episode, self.channels)

    def judge(self, measured: Sequence[Measurement | None]) -> Judgement:
        """Shares of the episodes whose sentence names a number of objects."""
        known = [each for each in measured if each is not None]
        if not known:
            return Judgement((None,) * len(measured), NO_GRIPPER)
        moving = gripped(known)[1]
        changes = iter(np.where(moving, [each.numbers[2] for each in known], 0).sum(axis=1).tolist())
        values: list[float | None] = []
        for each in measured:
            done = 0.0 if each is None else next(changes)
            count = None if each is None else told_count(each.text)
            values.append(None if count is None else done / (2 * count - 1))
        return Judgement(tuple(values), f"{sum(value is not None for value in values)} episodes are told a number.")
