"""Drop episodes that do not say what the robot was told."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vla_kit.data.cleaning.examined_episode import ExaminedEpisode
from vla_kit.data.cleaning.rule import Judgement, Limit, Measurement
from vla_kit.data.cleaning.rules._settings import check_count, check_threshold
from vla_kit.errors import SettingError

__all__ = ["PLACEHOLDERS", "MissingLanguage"]

PLACEHOLDERS: Final = (
    "n/a", "na", "nan", "none", "null", "nil", "valid", "invalid", "true", "false", "unknown", "undefined", "default",
    "dummy", "placeholder", "todo", "tbd", "test", "task", "no task", "empty", "language instruction", "instruction",
    "no instruction", "task description", "no language",
)  # fmt: skip
"""Texts that stand where a sentence is missing; compared without case and outer punctuation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingLanguage:
    """Share of frames whose sentence is empty or a placeholder.

    Args:
        threshold: Largest share that stays [0, 1].
        placeholders: Texts that count as no sentence. A text without any letter always does.
        frames: Frames to look at, spread evenly; sentences of stretches that are shorter may be missed.

    Raises:
        SettingError: If a number is out of range, or `placeholders` is a single text.

    Examples:
        >>> MissingLanguage(placeholders=["do the task"]).limit.violated_by(0.1)
        True

    Source:
        FineVLA (arXiv 2605.27284) drops episodes without a task: 27 % of Bridge and 22 % of DROID. "valid" stands
        beside the real sentence in GR-1's episodes.
    """

    threshold: float = 0.0
    placeholders: Sequence[str] = PLACEHOLDERS
    frames: int = 32

    def __post_init__(self) -> None:
        check_threshold(self.threshold, most=1)
        check_count("frames", self.frames)
        if isinstance(self.placeholders, str):
            raise SettingError(f"placeholders must be a list of texts, got {self.placeholders!r}. Write it as a list.")

    @property
    def name(self) -> str:
        """Key in the decision file."""
        return "missing_language"

    @property
    def quantity(self) -> str:
        """What is measured."""
        return "share of frames without a sentence"

    @property
    def limit(self) -> Limit:
        """Which values drop an episode."""
        return Limit(self.threshold)

    def measure(self, episode: ExaminedEpisode) -> Measurement | None:
        """Share of the sampled frames without a sentence."""
        frames = episode.spread(self.frames)
        if not frames:
            return None
        empty = {_plain(text) for text in self.placeholders}
        said = [_plain(episode.instruction_at(frame)) for frame in frames]
        return Measurement(np.array(sum(not text or text in empty for text in said) / len(said)))

    def judge(self, measured: Sequence[Measurement | None]) -> Judgement:
        """The shares as they were measured."""
        return Judgement.of_single_numbers(measured)


def _plain(text: str) -> str:
    words = re.sub(r"[\s_]+", " ", text).strip(" .,;:!?-\"'()[]<>{}").lower()
    return words if any(letter.isalpha() for letter in words) else ""
