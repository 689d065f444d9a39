"""Drop episodes that are too short to show anything."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_kit.data.cleaning.examined_episode import ExaminedEpisode
from vla_kit.data.cleaning.rule import Judgement, Limit, Measurement
from vla_kit.data.cleaning.rules._settings import check_threshold

__all__ = ["MinimumFrames"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MinimumFrames:
    """Frames of the episode; an episode of no frames is dropped here too.

    Args:
        threshold: Fewest frames that stay. It depends on the rate of the data set; `default_rules` knows the numbers
            of ten public sets.

    Raises:
        SettingError: If `threshold` is negative or not finite.

    Examples:
        >>> MinimumFrames(threshold=41).limit.violated_by(40)
        True

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.1, drops anomalous lengths without giving a number. The default is the
        smallest of the numbers in the released filter of FineVLA (arXiv 2605.27284, same group): that of Bridge.
    """

    threshold: float = 10

    def __post_init__(self) -> None:
        check_threshold(self.threshold)

    @property
    def name(self) -> str:
        """Key in the decision file."""
        return "minimum_frames"

    @property
    def quantity(self) -> str:
        """What is measured."""
        return "frames"

    @property
    def limit(self) -> Limit:
        """Which values drop an episode."""
        return Limit(self.threshold, drops="below")

    def measure(self, episode: ExaminedEpisode) -> Measurement | None:
        """Frames of the episode, as the metadata say."""
        return Measurement(np.array(float(len(episode))))

    def judge(self, measured: Sequence[Measurement | None]) -> Judgement:
        """The counts as they were measured."""
        return Judgement.of_single_numbers(measured)
