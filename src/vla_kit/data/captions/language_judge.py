"""Drop episodes of which a model says that the robot does something else than its sentence."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image

from vla_kit.data.captions._fields import Faults, read_texts
from vla_kit.data.captions.annotator import Annotator, AnnotatorMessage
from vla_kit.data.captions.ask import ask
from vla_kit.data.captions.looking import to_picture
from vla_kit.data.captions.prompt_folder import PromptFolder
from vla_kit.data.cleaning.examined_episode import ExaminedEpisode
from vla_kit.data.cleaning.rule import Judgement, Limit, Measurement
from vla_kit.errors import SettingError

__all__ = ["LanguageJudge"]

_FAULTS: Final = ("none", "object", "count", "direction", "gripper", "other")
_SHOWN: Final = 5


@dataclass(frozen=True, kw_only=True)
class LanguageJudge:
    """1 where a model that looks at the episode says that the sentence is wrong, 0 where it is right.

    A cleaning rule: it stands among the `rules` of `vla-kit data clean` and writes into the same decision file. It sees
    a wrong object or colour, which no rule about motion does, and costs one request per episode and run. Episodes
    without a sentence, a frame or a camera have no value.

    Args:
        annotator: The model.
        prompts: Folder with prompts of your own; those of vla-kit where None.
        camera: Key of the camera; the first that is looked at where None.
        frames: Frames to look at, spread evenly.
        width: Width at most; larger pictures shrink [pixel].
        attempts: Answers at most per episode.

    Raises:
        SettingError: If a number is below 1, or `prompts` is no folder of prompts.

    Examples:
        ```yaml
        rules:
          - class_path: vla_kit.data.captions.language_judge.LanguageJudge
            init_args:
              annotator:
                class_path: vla_kit.data.captions.openai_annotator.OpenAIAnnotator
                init_args: {model: Qwen/Qwen3-VL-8B-Instruct, base_url: http://localhost:8000/v1}
        ```

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.1, drops language that is inconsistent with the motion and does not say
        how it is found. The question is ours.
    """

    annotator: Annotator
    prompts: str | None = None
    camera: str | None = None
    frames: int = 16
    width: int = 512
    attempts: int = 3

    def __post_init__(self) -> None:
        for name in ("frames", "width", "attempts"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} must be at least 1, got {getattr(self, name)}. Leave it out.")
        if self.camera == "":
            raise SettingError("camera must be the key of a camera, got ''. Leave it out for the first.")
        PromptFolder(self.prompts)  # a broken folder is found before the first episode is looked at

    @property
    def name(self) -> str:
        """Key in the decision file."""
        return "language_judge"

    @property
    def quantity(self) -> str:
        """What is measured."""
        return "the sentence is wrong, says the model [0 or 1]"

    @property
    def limit(self) -> Limit:
        """Which values drop an episode."""
        return Limit(0.5)

    def measure(self, episode: ExaminedEpisode) -> Measurement | None:
        """Ask the model about one episode.

        Raises:
            DataError: If a frame cannot be read, or no answer can be used.
            AnnotatorError: If the model cannot be asked; the run ends.
        """
        sentence = episode.instruction_at(0).strip() if len(episode) else ""
        cameras = episode.cameras if self.camera is None else (self.camera,)
        if not sentence or not cameras:
            return None
        chosen = episode.spread(self.frames)
        parts: list[str | Image.Image] = []
        for frame, pixels in zip(chosen, episode.images(cameras[0], chosen), strict=True):
            parts += [f"frame {frame}:", to_picture(pixels, width=self.width)]
        prompts = PromptFolder(self.prompts)
        question = prompts.fill("judge_language", instruction=sentence)
        (wrong, said), _ = ask(
            self.annotator,
            [AnnotatorMessage("user", (*parts, question))],
            _read,
            schema=_SCHEMA,
            prompts=prompts,
            attempts=self.attempts,
        )
        return Measurement(np.array(float(wrong)), text=said)

    def judge(self, measured: Sequence[Measurement | None]) -> Judgement:
        """The answers, and the reasons for the first that are wrong."""
        wrong = [(index, each.text) for index, each in enumerate(measured) if each is not None and each.numbers]
        values = Judgement.of_single_numbers(measured).values
        if not wrong:
            return Judgement(values)
        kinds = Counter(text.partition(":")[0] for _, text in wrong)
        counts = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
        shown = " ".join(f"Episode {index}, {text}" for index, text in wrong[:_SHOWN])
        return Judgement(values, f"Wrong: {counts}. {shown}")


def _read(data: object) -> tuple[bool, str]:
    """Whether the sentence is wrong, and kind and reason."""
    faults = Faults("answer")
    texts = read_texts(data, ("fault", "reason"), "", faults, also=("agrees",))
    agrees = data.get("agrees") if isinstance(data, dict) else None
    if isinstance(data, dict) and not isinstance(agrees, bool):
        faults.add(f"agrees must be true or false, got {agrees!r}")
    if texts.get("fault", "none") not in _FAULTS:
        faults.add(f"fault must be one of {list(_FAULTS)}, got {texts['fault']!r}")
    faults.check()
    return not agrees, f"{texts['fault']}: {texts['reason']}"


_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "agrees": {"type": "boolean"},
        "fault": {"type": "string", "enum": list(_FAULTS)},
        "reason": {"type": "string"},
    },
    "required": ["agrees", "fault", "reason"],
    "additionalProperties": False,
}
