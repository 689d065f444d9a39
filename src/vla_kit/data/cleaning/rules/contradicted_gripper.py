"""Drop episodes whose sentence tells to grasp and whose gripper rests."""

from collections.abc import Sequence
from dataclasses import dataclass

from vla_kit.data.cleaning.examined_episode import ExaminedEpisode
from vla_kit.data.cleaning.rule import Judgement, Limit, Measurement
from vla_kit.data.cleaning.rules._grips import NO_GRIPPER, gripped, measure_grips, tells_to_grasp
from vla_kit.data.cleaning.rules._settings import check_channels, check_threshold

__all__ = ["ContradictedGripper"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContradictedGripper:
    """Share of its range that the gripper uses where the sentence tells to pick, grasp, grab, lift, fetch or carry.

    The range is that of the whole data set. Of several grippers the one that moves most counts, so that either arm may
    do it. Sentences without such a word have no value.

    Args:
        threshold: Smallest share that stays [0, 1].
        channels: Channels of the actions that are grippers, counted from 0; those with "grip" in their names where
            None.

    Raises:
        SettingError: If `threshold` is out of range or a channel negative; when measured, if a channel does not exist.

    Examples:
        >>> ContradictedGripper(channels=[6]).limit
        Limit(threshold=0.25, drops='below')

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.1, drops language that is inconsistent with the motion and does not say
        how it is found. This measure is ours.
    """

    threshold: float = 0.25
    channels: Sequence[int] | None = None

    def __post_init__(self) -> None:
        check_threshold(self.threshold, most=1)
        check_channels(self.channels)

    @property
    def name(self) -> str:
        """Key in the decision file."""
        return "contradicted_gripper"

    @property
    def quantity(self) -> str:
        """What is measured."""
        return "gripper motion where the sentence tells to grasp [share of the range in the data set]"

    @property
    def limit(self) -> Limit:
        """Which values drop an episode."""
        return Limit(self.threshold, drops="below")

    def measure(self, episode: ExaminedEpisode) -> Measurement | None:
        """Range and changes of the grippers, and the sentence."""
        return measure_grips(episode, self.channels)

    def judge(self, measured: Sequence[Measurement | None]) -> Judgement:
        """Shares of the episodes that are told to grasp."""
        known = [each for each in measured if each is not None]
        if not known:
            return Judgement((None,) * len(measured), NO_GRIPPER)
        shares = iter(gripped(known)[0].max(axis=1).tolist())
        values = [None if each is None else next(shares) for each in measured]
        told = [each is not None and tells_to_grasp(each.text) for each in measured]
        return Judgement(
            tuple(value if grasp else None for value, grasp in zip(values, told, strict=True)),
            f"{sum(told)} episodes are told to grasp.",
        )
