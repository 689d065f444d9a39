"""Caption one episode in the stages of the paper."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any

from PIL import Image

from vla_kit.data.captions.annotator import Annotator, AnnotatorMessage
from vla_kit.data.captions.ask import ask
from vla_kit.data.captions.begun_captions import BegunCaptions
from vla_kit.data.captions.caption_record import CaptionRecord
from vla_kit.data.captions.fine_caption import DIMENSIONS, FineCaption
from vla_kit.data.captions.looking import FrameChoice, frames_to_see, see
from vla_kit.data.captions.outline import CaptionOutline
from vla_kit.data.captions.prompt_folder import PromptFolder
from vla_kit.data.captions.usage import AnnotationUsage
from vla_kit.data.source import EpisodeSource
from vla_kit.errors import DataError, SettingError

__all__ = ["CaptionStages"]


@dataclass(frozen=True, kw_only=True, eq=False)
class CaptionStages:
    """Watch an episode, describe it, and check it against the other cameras.

    Args:
        source: Data set.
        annotator: The model.
        prompts: What it is asked.
        camera: Key of the camera of the first two stages.
        other_cameras: Keys of cameras at the wrist or the side, for the third; it is left out where there are none.
        recorded_hz: Frames per second of the data set.
        frames: How densely and how large episodes are seen.
        attempts: Answers at most per stage.
        begun: First answers of episodes that are not finished.
        reading: Held while frames are read, since a source serves one thread at a time.

    Raises:
        SettingError: If `recorded_hz` is not above 0, or `attempts` is below 1.
        DataError: If a camera is not in the data set.

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.5: from video to a coarse action sequence and the object; then from
        dense frames, given that, to numbered steps; one more pass over wrist or side views where a set has them.
    """

    source: EpisodeSource
    annotator: Annotator
    prompts: PromptFolder
    camera: str
    other_cameras: tuple[str, ...]
    recorded_hz: float
    frames: FrameChoice
    attempts: int
    begun: BegunCaptions
    reading: Lock

    def __post_init__(self) -> None:
        if not 0 < self.recorded_hz < math.inf:
            raise SettingError(
                f"recorded_hz must be above 0 and finite, got {self.recorded_hz}. Give the frames per second of "
                f"{self.source.location}."
            )
        if self.attempts < 1:
            raise SettingError(f"attempts must be at least 1, got {self.attempts}. Use 3.")
        known = list(self.source.cameras)
        for key in (self.camera, *self.other_cameras):
            if key not in known:
                raise DataError(f"camera must be one of {self.source.location}, got {key!r}. Choose from {known}.")

    def settings(self) -> dict[str, Any]:
        """What decides how an episode is captioned, as JSON values."""
        return {
            "model": self.annotator.model,
            "prompts": self.prompts.digest,
            "camera": self.camera,
            "other_cameras": list(self.other_cameras),
            "rate_hz": self.recorded_hz,
            **asdict(self.frames),
        }

    def caption(self, index: int) -> CaptionRecord:
        """Caption an episode.

        Args:
            index: Episode, of at least one frame.

        Raises:
            DataError: If a frame cannot be read, or no answer can be used.
            AnnotatorError: If the model cannot be asked.
        """
        with self.reading:
            told = self.source.instruction_at(index, 0)
        sparse, dense = (self._choose(index, rate) for rate in (self.frames.sparse_hz, self.frames.dense_hz))
        outline, usage = self.begun.find(index) or self._watch(index, told, sparse)
        request = self.prompts.fill(
            "describe",
            instruction=told,
            outline=json.dumps(outline.plain(), ensure_ascii=False),
            dimensions="\n".join(f"- {name}: {says}" for name, says in DIMENSIONS.items()),
        )
        caption, spent = self._ask(request, self._see(index, self.camera, dense))
        usage += spent
        seen = {self.camera: dense}
        if self.other_cameras:
            written = json.dumps(caption.plain(), ensure_ascii=False)
            request = self.prompts.fill("other_views", instruction=told, caption=written)
            fewer = dense[:: len(self.other_cameras)]  # as many pictures in all
            parts = [part for key in self.other_cameras for part in self._see(index, key, fewer, named=True)]
            caption, spent = self._ask(request, parts)
            usage += spent
            seen |= dict.fromkeys(self.other_cameras, fewer)
        return CaptionRecord(
            episode=index,
            instruction=told,
            caption=caption,
            outline=outline,
            model=self.annotator.model,
            prompts=self.prompts.digest,
            frames={camera: tuple(frames) for camera, frames in seen.items()},
            usage=usage,
        )

    def _watch(self, index: int, told: str, frames: list[int]) -> tuple[CaptionOutline, AnnotationUsage]:
        """The first stage, whose answer is kept until the caption is written."""
        answered = ask(
            self.annotator,
            self._talk(self.prompts.fill("watch", instruction=told), self._see(index, self.camera, frames)),
            CaptionOutline.parse,
            schema=CaptionOutline.schema(),
            prompts=self.prompts,
            attempts=self.attempts,
        )
        self.begun.keep(index, *answered)
        return answered

    def _choose(self, index: int, wanted_hz: float) -> list[int]:
        length = int(self.source.lengths[index])
        return frames_to_see(length, recorded_hz=self.recorded_hz, wanted_hz=wanted_hz, most=self.frames.most)

    def _see(self, index: int, camera: str, frames: list[int], *, named: bool = False) -> list[str | Image.Image]:
        with self.reading:
            return see(
                self.source,
                index,
                camera,
                frames,
                recorded_hz=self.recorded_hz,
                width=self.frames.width,
                named=named,
            )

    @staticmethod
    def _talk(request: str, parts: Sequence[str | Image.Image]) -> list[AnnotatorMessage]:
        return [AnnotatorMessage("user", (*parts, request))]

    def _ask(self, request: str, parts: Sequence[str | Image.Image]) -> tuple[FineCaption, AnnotationUsage]:
        return ask(
            self.annotator,
            self._talk(request, parts),
            FineCaption.parse,
            schema=FineCaption.schema(),
            prompts=self.prompts,
            attempts=self.attempts,
        )
