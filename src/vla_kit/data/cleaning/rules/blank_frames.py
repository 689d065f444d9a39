"""Drop episodes in which a camera shows nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_kit.data.cleaning.examined_episode import ExaminedEpisode
from vla_kit.data.cleaning.rule import Judgement, Limit, Measurement
from vla_kit.data.cleaning.rules._settings import check_count, check_threshold
from vla_kit.errors import SettingError

__all__ = ["BlankFrames"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlankFrames:
    """Largest share of blank images of any camera: images of one colour, as a missing frame is often stored.

    A camera that is blank in most episodes was not there; it is left out and named in the report.

    Args:
        threshold: Largest share that stays [0, 1].
        frames: Frames to look at per episode and camera, spread evenly.
        contrast: An image is blank where the standard deviation of its pixels is below this [0-255].

    Raises:
        SettingError: If a number is out of range.

    Examples:
        >>> BlankFrames().limit.violated_by(0.25)
        True

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.1 (missing frames). The paper gives no threshold; these are ours.
    """

    threshold: float = 0.2
    frames: int = 8
    contrast: float = 2.0

    def __post_init__(self) -> None:
        check_threshold(self.threshold, most=1)
        check_count("frames", self.frames)
        if not 0 < self.contrast <= 255:
            raise SettingError(f"contrast must lie in (0, 255], got {self.contrast}. Use 2.")

    @property
    def name(self) -> str:
        """Key in the decision file."""
        return "blank_frames"

    @property
    def quantity(self) -> str:
        """What is measured."""
        return "share of blank images of the worst camera"

    @property
    def limit(self) -> Limit:
        """Which values drop an episode."""
        return Limit(self.threshold)

    def measure(self, episode: ExaminedEpisode) -> Measurement | None:
        """Share of blank images per camera; NaN for a camera that cannot be read."""
        if not episode.cameras or not len(episode):
            return None
        shares = []
        for camera in episode.cameras:
            pictures = episode.images(camera, episode.spread(self.frames), keep=True)
            shares.append(float((pictures.float().flatten(1).std(dim=1) < self.contrast).float().mean()))
        return Measurement(np.array(shares), text="\n".join(episode.cameras))

    def judge(self, measured: Sequence[Measurement | None]) -> Judgement:
        """The worst camera of those that show something in most episodes."""
        known = [each for each in measured if each is not None]
        if not known:
            return Judgement((None,) * len(measured))
        present = np.median([each.numbers for each in known], axis=0) < 1
        values = tuple(
            None if each is None or not present.any() else float(each.numbers[present].max()) for each in measured
        )
        absent = [camera for camera, there in zip(known[0].text.split("\n"), present, strict=True) if not there]
        note = f"Blank in most episodes, and therefore left out: {', '.join(absent)}." if absent else ""
        return Judgement(values, note)
