"""One captioned episode with where its caption comes from: a line of `captions.jsonl`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vla_kit.data.captions._fields import whole_number
from vla_kit.data.captions.fine_caption import FineCaption
from vla_kit.data.captions.outline import CaptionOutline
from vla_kit.data.captions.usage import AnnotationUsage
from vla_kit.errors import DataError, SettingError

__all__ = ["CaptionRecord"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionRecord:
    """The caption of an episode and its provenance.

    Args:
        episode: Number of the episode in its data set.
        instruction: What the robot was told.
        caption: The caption.
        outline: What the first stage wrote.
        model: Name of the model.
        prompts: Digest of the prompts.
        frames: Camera -> frames that the caption was written from.
        usage: What it cost.

    Examples:
        >>> CaptionRecord.parse({"episode": 3})
        Traceback (most recent call last):
        ...
        vla_kit.errors.DataError: data must have every key of a record, got: KeyError('instruction'). ...
    """

    episode: int
    instruction: str
    caption: FineCaption
    outline: CaptionOutline
    model: str
    prompts: str
    frames: Mapping[str, tuple[int, ...]]
    usage: AnnotationUsage

    def plain(self) -> dict[str, Any]:
        """The record as JSON values; the inverse of `parse`."""
        return {
            "episode": self.episode,
            "instruction": self.instruction,
            "caption": self.caption.plain(),
            "outline": self.outline.plain(),
            "model": self.model,
            "prompts": self.prompts,
            "frames": {camera: list(frames) for camera, frames in self.frames.items()},
            "usage": asdict(self.usage),
        }

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> "CaptionRecord":
        """Read a record from JSON values.

        Args:
            data: As `plain` gives it.

        Raises:
            DataError: If a key is missing or broken.
        """
        try:
            return cls(
                episode=whole_number(data["episode"]),
                instruction=str(data["instruction"]),
                caption=FineCaption.parse(data["caption"]),
                outline=CaptionOutline.parse(data["outline"]),
                model=str(data["model"]),
                prompts=str(data["prompts"]),
                frames={camera: tuple(map(whole_number, frames)) for camera, frames in data["frames"].items()},
                usage=AnnotationUsage(**data["usage"]),
            )
        except (KeyError, TypeError, AttributeError, SettingError) as error:
            raise DataError(
                f"data must have every key of a record, got: {error!r}. Give what `plain` gives."
            ) from error
