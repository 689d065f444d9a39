"""Records of the kinds of data that the paper trains language on, in the form of Qwen's fine-tuning files.

Each function takes what a data set of its kind holds and gives one record, a plain dictionary that `json.dump` writes
and `ConversationSource` reads: `{"messages": [{"role": ..., "content": [...]}]}`. Questions that the data do not bring
are drawn from a few wordings by `number`, so that a record is the same on every run.
"""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from vla_kit.data.conversations.boxes import BoxScale, box_text, rescale_box
from vla_kit.errors import DataError, SettingError

__all__ = [
    "Record",
    "caption_record",
    "driving_record",
    "ocr_record",
    "question_record",
    "referring_record",
    "region_record",
    "spatial_record",
    "trajectory_record",
    "write_records",
]

Record = dict[str, Any]
"""One conversation as JSON."""

_CAPTION: Final = ("Describe the image.", "What does this image show?", "Write a caption for this image.")
_READ: Final = ("Read all the text in the image.", "What text is in the image?", "Transcribe the image.")
_LOCATE: Final = ("Locate {} in the image and give its box.", "Where is {}? Answer with its box.", "Find {}.")
_NAME: Final = ("What is in the box {}?", "Describe the region {} of the image.", "Name what the box {} holds.")
_RELATE: Final = ("Where is {} in relation to {}?", "How does {} lie relative to {}?", "Where do you see {}, from {}?")


def caption_record(image: str, caption: str, *, number: int = 0) -> Record:
    """An image and its caption.

    Args:
        image: Path of the image.
        caption: What it shows.
        number: Number of the record, which chooses the wording of the question.

    Examples:
        >>> [message["content"] for message in caption_record("a.jpg", "Two cups.")["messages"]]
        [[{'type': 'image', 'image': 'a.jpg'}, {'type': 'text', 'text': 'Describe the image.'}], 'Two cups.']
    """
    return question_record([image], _CAPTION[number % len(_CAPTION)], caption)


def question_record(images: Sequence[str], question: str, answer: str) -> Record:
    """A question about images, or about none, and its answer.

    Multiple choice becomes free form with `free_form` before.

    Args:
        images: Paths, in the order in which they are seen; may be empty.
        question: What is asked.
        answer: What is to be said.

    Raises:
        DataError: If question or answer is blank.
    """
    return _record([{"type": "image", "image": image} for image in images], question, answer)


def ocr_record(
    image: str,
    lines: Sequence[str],
    *,
    boxes: Sequence[Sequence[float]] | None = None,
    scale: BoxScale = "pixel",
    size: tuple[int, int] | None = None,
    number: int = 0,
) -> Record:
    """An image with text, and the text: in lines, or with a box around each line.

    Args:
        image: Path of the image.
        lines: The text, in reading order.
        boxes: Box of each line, where the lines are to be located too.
        scale: Of the boxes.
        size: Height and width of the image, for boxes in pixels.
        number: Number of the record, which chooses the wording of the question.

    Raises:
        DataError: If a box does not lie in the image, or boxes and lines differ in number.
    """
    if boxes is None:
        return question_record([image], _READ[number % len(_READ)], "\n".join(lines))
    located = box_text([rescale_box(box, source=scale, target="thousand", size=size) for box in boxes], lines)
    return question_record([image], f"{_READ[number % len(_READ)]} Give the box of every line.", located)


def referring_record(
    image: str,
    phrase: str,
    boxes: Sequence[Sequence[float]],
    *,
    scale: BoxScale = "pixel",
    size: tuple[int, int] | None = None,
    number: int = 0,
) -> Record:
    """A referring expression, and the boxes that it means.

    Args:
        image: Path of the image.
        phrase: The expression, such as `the cup on the left`.
        boxes: One, or several where it means several.
        scale: Of the boxes.
        size: Height and width of the image, for boxes in pixels.
        number: Number of the record, which chooses the wording of the question.

    Raises:
        DataError: If a box does not lie in the image.

    Examples:
        >>> record = referring_record("a.jpg", "the cup", [(64, 0, 128, 120)], size=(240, 640))
        >>> record["messages"][1]["content"]
        '[{"bbox_2d": [100, 0, 200, 500], "label": "the cup"}]'
    """
    located = [rescale_box(box, source=scale, target="thousand", size=size) for box in boxes]
    return question_record(
        [image], _LOCATE[number % len(_LOCATE)].format(phrase), box_text(located, [phrase] * len(boxes))
    )


def region_record(
    image: str,
    box: Sequence[float],
    description: str,
    *,
    scale: BoxScale = "pixel",
    size: tuple[int, int] | None = None,
    number: int = 0,
) -> Record:
    """A box, and what it holds: a referring expression the other way round.

    Args:
        image: Path of the image.
        box: The region.
        description: What it holds.
        scale: Of the box.
        size: Height and width of the image, for a box in pixels.
        number: Number of the record, which chooses the wording of the question.

    Raises:
        DataError: If the box does not lie in the image.
    """
    located = list(rescale_box(box, source=scale, target="thousand", size=size))
    return question_record([image], _NAME[number % len(_NAME)].format(located), description)


def spatial_record(image: str, first: str, relation: str, second: str, *, number: int = 0) -> Record:
    """Two things and how they lie, such as `the cup`, `left of`, `the bowl`.

    Args:
        image: Path of the image.
        first: What is asked for.
        relation: How it lies.
        second: What it is compared with.
        number: Number of the record, which chooses the wording of the question.

    Examples:
        >>> spatial_record("a.jpg", "the cup", "left of", "the bowl")["messages"][1]["content"]
        'The cup is left of the bowl.'
    """
    said = f"{first} is {relation} {second}."
    question = _RELATE[number % len(_RELATE)].format(first, second)
    return question_record([image], question, said[:1].upper() + said[1:])


def driving_record(cameras: Mapping[str, str | Sequence[str]], question: str, answer: str) -> Record:
    """A question about what the cameras of a car see, at one instant or several.

    Args:
        cameras: View tag -> image, or the images of several instants, oldest first and as many for every camera, in the
            order in which they are seen. Each image then stands between the boundary tokens of its view, and each
            instant behind its frame tag.
        question: What is asked.
        answer: What is to be said.

    Raises:
        DataError: If the cameras have different numbers of images, or a text is blank.

    Examples:
        >>> record = driving_record({"cam_front": ["0.jpg", "1.jpg"], "cam_back": ["2.jpg", "3.jpg"]}, "Stop?", "Yes.")
        >>> [(part["view"], part["instant"]) for part in record["messages"][0]["content"][:-1]]
        [('cam_front', 0), ('cam_back', 0), ('cam_front', 1), ('cam_back', 1)]

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.5: frame tags for several frames, view tags for surround view.
    """
    if all(isinstance(images, str) for images in cameras.values()):
        return _record(
            [{"type": "image", "image": one, "view": view} for view, one in cameras.items()], question, answer
        )
    stacks = {view: [images] if isinstance(images, str) else list(images) for view, images in cameras.items()}
    counts = {view: len(images) for view, images in stacks.items()}
    if len(set(counts.values())) > 1:
        raise DataError(f"cameras must have as many images each, got {counts}. Give one per instant and camera.")
    parts = [
        {"type": "image", "image": images[instant], "view": view, "instant": instant}
        for instant in range(max(counts.values(), default=0))
        for view, images in stacks.items()
    ]
    return _record(parts, question, answer)


def trajectory_record(
    cameras: Mapping[str, str | Sequence[str]],
    waypoints: Sequence[tuple[float, float]],
    *,
    step_s: float,
    command: str | None = None,
    speed_mps: float | None = None,
) -> Record:
    """Where a car drives next, in words: a list of points that the model says.

    Args:
        cameras: As for `driving_record`.
        waypoints: Points ahead and to the left of the car [m], one per step.
        step_s: Time between points [s].
        command: What the driver wants, such as `turn left`.
        speed_mps: Speed now [m/s].

    Raises:
        DataError: If there is no point, or a number is not finite.
        SettingError: If `step_s` is not above 0.

    Examples:
        >>> record = trajectory_record({"cam_front": "0.jpg"}, [(1.5, 0.0), (3.0, 0.24)], step_s=0.5)
        >>> record["messages"][1]["content"]
        '[(1.50, 0.00), (3.00, 0.24)]'

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.5: driving trajectories are text answers; the form is ours.
    """
    if not waypoints:
        raise DataError("waypoints must hold at least one point, got none. Leave the record out.")
    if not all(math.isfinite(metres) for point in waypoints for metres in point):
        raise DataError(f"waypoints must be finite, got {list(waypoints)}. Leave the record out.")
    if not 0 < step_s < math.inf:
        raise SettingError(f"step_s must be above 0 and finite, got {step_s}. Give the seconds between two points.")
    if speed_mps is not None and not math.isfinite(speed_mps):
        raise DataError(f"speed_mps must be finite, got {speed_mps}. Leave it out where it is unknown.")
    known = [f"The car drives {speed_mps:.1f} m/s."] if speed_mps is not None else []
    known += [f"The driver wants to {command}."] if command else []
    asked = (
        f"Where does the car drive in the next {len(waypoints) * step_s:g} s? Give a point every {step_s:g} s, in "
        "metres ahead and to the left."
    )
    said = ", ".join(f"({ahead:.2f}, {left:.2f})" for ahead, left in waypoints)
    return driving_record(cameras, " ".join([*known, asked]), f"[{said}]")


def write_records(records: Iterable[Record], path: str | Path, *, mode: Literal["w", "a"] = "w") -> int:
    """Write records to a JSONL file, all of them or none.

    They are written beside the file first, so whatever ends the writing leaves the file as it was.

    Args:
        records: As the functions of this module make them.
        path: File; its folder is made if absent.
        mode: Whether to replace the file or to add to it.

    Returns:
        Records written.

    Raises:
        SettingError: If `mode` is unknown.
        DataError: If a record cannot be written as JSON, or the file cannot be written.
    """
    if mode not in ("w", "a"):
        raise SettingError(f"mode must be 'w' or 'a', got {mode!r}. Use 'w' to replace the file.")
    place, count = Path(path), 0
    if place.is_dir():
        raise DataError(f"path must be a file that can be written, got the folder {path}. Name a file in it.")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.")
    except OSError as error:
        raise DataError(f"path must be a file that can be written, got {path}: {error}. Choose another.") from error
    with folder:
        begun = Path(folder.name) / place.name
        if mode == "a" and place.exists():
            shutil.copyfile(place, begun)
        with begun.open("a", encoding="utf-8") as file:
            for record in records:
                file.write(_line(record, count))
                count += 1
        os.replace(begun, place)
    return count


def _line(record: Record, number: int) -> str:
    try:
        return json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise DataError(f"records must be JSON, got record {number}: {error}. Make plain values of it.") from error


def _record(pictures: Sequence[Mapping[str, Any]], question: str, answer: str) -> Record:
    for name, text in (("question", question), ("answer", answer)):
        if not text.strip():
            raise DataError(f"{name} must hold words, got {text!r}. Leave the record out.")
    asked: Any = [*pictures, {"type": "text", "text": question.strip()}] if pictures else question.strip()
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer.strip()}]}
