"""Drop episodes whose images are missing or cannot be decoded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vla_kit.data.cleaning.examined_episode import ExaminedEpisode
from vla_kit.data.cleaning.rule import Judgement, Limit, Measurement
from vla_kit.data.cleaning.rules._settings import check_threshold
from vla_kit.errors import DataError, SettingError

__all__ = ["UnreadableFrames"]

_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableFrames:
    """Share of images that cannot be read, over all cameras.

    The first and the last frame are always among the checked ones, so a file that is truncated or one frame short is
    found whatever `frames` is. A damaged stretch inside a file is found for sure only where every frame is decoded.

    Args:
        threshold: Largest share that stays [0, 1].
        frames: Frames to decode per episode and camera, spread evenly; every frame where None, which costs what
            decoding the whole data set costs.

    Raises:
        SettingError: If `frames` is below 2, or `threshold` is out of range.

    Examples:
        >>> UnreadableFrames(frames=None).limit
        Limit(threshold=0.0, drops='above')

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.1: trajectories with corrupted or missing frames are dropped.
    """

    threshold: float = 0.0
    frames: int | None = 8

    def __post_init__(self) -> None:
        check_threshold(self.threshold, most=1)
        if self.frames is not None and self.frames < 2:
            raise SettingError(f"frames must be at least 2 or None, got {self.frames}. Give 8 to look at a sample.")

    @property
    def name(self) -> str:
        """Key in the decision file."""
        return "unreadable_frames"

    @property
    def quantity(self) -> str:
        """What is measured."""
        return "share of images that cannot be read"

    @property
    def limit(self) -> Limit:
        """Which values drop an episode."""
        return Limit(self.threshold)

    def measure(self, episode: ExaminedEpisode) -> Measurement | None:
        """Decode frames of every camera, one by one where a stretch fails."""
        if not episode.cameras or not len(episode):
            return None
        wanted = list(episode.spread(len(episode) if self.frames is None else self.frames))
        bad = sum(
            _count_unreadable(episode, camera, wanted[start : start + _AT_ONCE], keep=self.frames is not None)
            for camera in episode.cameras
            for start in range(0, len(wanted), _AT_ONCE)
        )
        return Measurement(np.array(bad / (len(wanted) * len(episode.cameras))))

    def judge(self, measured: Sequence[Measurement | None]) -> Judgement:
        """The shares as they were measured."""
        return Judgement.of_single_numbers(measured)


def _count_unreadable(episode: ExaminedEpisode, camera: str, wanted: list[int], *, keep: bool) -> int:
    try:
        episode.images(camera, wanted, keep=keep)
    except (DataError, OSError):
        if len(wanted) == 1:
            return 1
        return sum(_count_unreadable(episode, camera, [frame], keep=False) for frame in wanted)
    return 0
