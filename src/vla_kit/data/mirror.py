"""Mirrored samples of human hands: poses, pictures and words change sides together."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Generator, Tensor, nn

from vla_kit.actions import QuantileStats, mirror_hand_mask, mirror_hands
from vla_kit.data.sample import Sample
from vla_kit.errors import SettingError, ShapeError

__all__ = ["HandMirror", "mirror_sample", "mirror_words"]

_WORDS: Final = re.compile(r"(?<![A-Za-z])(left|right)((?:ward)?s?|most|-hand(?:ed)?|hand(?:ed)?)(?![A-Za-z])", re.I)
_TURNS: Final = re.compile(r"(?<![A-Za-z])(counter|anti)?(-?)clockwise(?![A-Za-z])", re.I)
_OTHER: Final = {"left": "right", "right": "left"}


class HandMirror(nn.Module):
    """Shows a sample of human hands in a mirror, with a probability; other robots pass through.

    Left and right hand change places, pictures are flipped, and `left` and `right` in the words. Every known frame then
    teaches both hands, and a set that shows right hands alone teaches left ones too.

    Args:
        probability: Of a mirrored sample, in [0, 1].
        embodiments: Names of the embodiments that are human hands.

    Raises:
        SettingError: If `probability` lies outside [0, 1], or `embodiments` is no list or empty.

    Examples:
        >>> sample = Sample(embodiment="human_hands", instruction="Left hand: Wave.", views={}, dataset="demo",
        ...     actions=torch.eye(32)[:1], valid=torch.tensor([True]), episode=0, frame=0)
        >>> mirrored = HandMirror(probability=1.0)(sample)
        >>> mirrored.instruction, mirrored.actions[0, 16].item()
        ('Right hand: Wave.', -1.0)

    Source:
        VITRA, arXiv 2510.21571, flips pictures and hands. Qwen-VLA, arXiv 2605.30280, is silent on augmentation.
    """

    def __init__(
        self,
        probability: float = 0.5,
        *,
        embodiments: Sequence[str] = ("human_hands", "human_hands_camera"),
    ) -> None:
        super().__init__()
        if not 0 <= probability <= 1:
            raise SettingError(f"probability must lie in [0, 1], got {probability}. Use 0.5.")
        if isinstance(embodiments, str) or not embodiments:
            raise SettingError(f"embodiments must list the human hands, got {embodiments!r}. Such as [human_hands].")
        self.probability = probability
        self.embodiments = tuple(embodiments)

    def forward(self, sample: Sample, *, generator: Generator | None = None) -> Sample:
        """The sample or its mirror image; `generator` makes the draws repeatable."""
        if sample.embodiment not in self.embodiments:
            return sample
        drawn = torch.rand((), generator=generator, device="cpu" if generator is None else generator.device)
        return mirror_sample(sample) if float(drawn) < self.probability else sample

    def statistics(self, embodiment: str, stats: QuantileStats) -> QuantileStats:
        """Statistics that hold for samples and their mirror images, so that nothing mirrored is clipped.

        Of each channel the wider range: its own or that of its mirror image. Mean and deviation are left out.

        Args:
            embodiment: Name of the robot.
            stats: Statistics of the data.
        """
        if embodiment not in self.embodiments or not self.probability:
            return stats
        low, high = _both(stats.q01, stats.q99)
        least, most = (None, None)
        if stats.minimum is not None and stats.maximum is not None:
            least, most = _both(stats.minimum, stats.maximum)
        return QuantileStats(low, high, least, most, count=stats.count)


def mirror_sample(sample: Sample) -> Sample:
    """A sample of human hands as it looks in a mirror; twice is nothing, see `mirror_words` for one spelling.

    Args:
        sample: Sample of 32 channels, see `mirror_hands`. Views whose tag names a side change places.

    Raises:
        ShapeError: If the sample has not 32 channels.
    """
    if sample.size != 32:
        raise ShapeError(
            f"sample must have the 32 channels of human hands, got {sample.size} of {sample.embodiment}. "
            "Mirror hands alone."
        )
    return replace(
        sample,
        instruction=mirror_words(sample.instruction),
        views={_mirror_tag(tag): image.flip(-1) for tag, image in sample.views.items()},
        actions=mirror_hands(sample.actions),
        known=None if sample.known is None else mirror_hand_mask(sample.known),
    )


def mirror_words(text: str) -> str:
    """A sentence with left and right exchanged, and the two senses of rotation.

    Twice is nothing, but that "anti-clockwise" and the like come back as "counterclockwise". Capitals stay as they are.
    `right` is always taken for the side, also in "right away".

    Args:
        text: An English sentence.

    Examples:
        >>> mirror_words("Left hand: turn the upright knob clockwise. Right hand: move RIGHTWARD.")
        'Right hand: turn the upright knob counterclockwise. Left hand: move LEFTWARD.'
    """
    text = _WORDS.sub(lambda found: _like(_OTHER[found[1].lower()], found[1]) + found[2], text)
    return _TURNS.sub(_other_turn, text)


def _other_turn(found: re.Match[str]) -> str:
    """`clockwise` or `counterclockwise`; the latter is the one written for `anti-clockwise` and the like."""
    word = found[0]
    return _like("clockwise" if found[1] else "counterclockwise", word)


def _like(word: str, model: str) -> str:
    """A word with the capitals of another."""
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[0].isupper() else word


def _mirror_tag(tag: str) -> str:
    return "_".join(_OTHER.get(word, word) for word in tag.split("_"))


def _both(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The wider of each channel's range and that of its mirror image."""
    ends = torch.stack([mirror_hands(low), mirror_hands(high)])
    return torch.minimum(low, ends.amin(dim=0)), torch.maximum(high, ends.amax(dim=0))
