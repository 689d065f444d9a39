"""Captions as instructions of training, beside the sentences of the data set."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from vla_kit.data.captions.caption_log import CaptionLog
from vla_kit.data.captions.caption_reviews import usable_captions
from vla_kit.data.source import EpisodeSource
from vla_kit.errors import DataError, SettingError

__all__ = ["CaptionMix", "MixedInstructions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionMix:
    """How often a captioned episode is told its caption in place of its sentence: the `captions` of a data set.

    Args:
        root: Folder of `vla-kit data caption`.
        fine: Parts of the frames whose instruction is the caption.
        raw: Parts of the frames that keep the sentence.
        reviewed: Whether only captions that a person accepted or corrected are used. Rejected ones never are.

    Raises:
        SettingError: If a part is negative or infinite, both are 0, or `root` is empty.

    Examples:
        >>> CaptionMix(root="captions/pick").share
        0.3333333333333333

    Source:
        FineVLA (arXiv 2605.27284, same group as Qwen-VLA): fine to raw of 1:2 to 1:1 is best. Qwen-VLA is silent.
    """

    root: str
    fine: float = 1.0
    raw: float = 2.0
    reviewed: bool = True

    def __post_init__(self) -> None:
        if not self.root:
            raise SettingError("root must be a folder of captions, got ''. Write one with `vla-kit data caption`.")
        if not (self.fine >= 0 and self.raw >= 0 and 0 < self.fine + self.raw < float("inf")):
            raise SettingError(
                f"fine and raw must be at least 0, finite and not both 0, got {self.fine} and {self.raw}. Use 1:2."
            )

    @property
    def share(self) -> float:
        """Share of the frames of a captioned episode whose instruction is the caption."""
        return self.fine / (self.fine + self.raw)

    def open(self, source: EpisodeSource) -> "MixedInstructions":
        """Read the captions of a data set.

        Args:
            source: The data set.

        Raises:
            DataError: If the captions are missing, broken or of another data set, or none may be used.
        """
        log = CaptionLog(self.root)
        log.check(source)
        captions = {
            index: caption.instruction for index, caption in usable_captions(log, reviewed=self.reviewed).items()
        }
        if not captions:
            remedy = f"Run `vla-kit data review {self.root}`, or set reviewed: false" if self.reviewed else "Caption it"
            raise DataError(
                f"{self.root} must hold a caption that may be used, got none of {len(log.records)}. {remedy}."
            )
        return MixedInstructions(captions, share=self.share)


class MixedInstructions:
    """Chooses between the sentence and the caption of a frame; always the same for the same frame.

    Which frames get the caption is spread as if by chance over episodes and frames, but depends on nothing but both
    numbers, so that a resumed run and any number of workers say the same.

    Args:
        captions: Episode -> its caption as an instruction.
        share: Share of the frames that get it, in [0, 1].

    Raises:
        SettingError: If `share` lies outside.

    Examples:
        >>> mixed = MixedInstructions({3: "Step 1: Grasp the pear."}, share=1.0)
        >>> mixed.choose(3, 0, "pick the pear"), mixed.choose(4, 0, "pick the cup")
        ('Step 1: Grasp the pear.', 'pick the cup')
    """

    def __init__(self, captions: Mapping[int, str], *, share: float) -> None:
        if not 0 <= share <= 1:
            raise SettingError(f"share must lie in [0, 1], got {share}. Use 1 for the caption in every frame.")
        self._captions, self._share = dict(captions), share

    def choose(self, episode: int, frame: int, sentence: str) -> str:
        """The instruction of a frame.

        Args:
            episode: Episode.
            frame: Frame.
            sentence: What the data set says there.
        """
        caption = self._captions.get(episode)
        if caption is None or zlib.crc32(f"{episode}:{frame}".encode()) >= self._share * 2**32:
            return sentence
        return caption
