"""Boxes in pixels, in shares of the image and on Qwen's scale from 0 to 1000, and as text."""

import json
from collections.abc import Sequence
from typing import Final, Literal

from vla_kit.errors import DataError, SettingError

__all__ = ["Box", "BoxScale", "box_from_corner", "box_text", "read_boxes", "rescale_box"]

Box = tuple[float, float, float, float]
"""Left, top, right and bottom."""
BoxScale = Literal["pixel", "unit", "thousand"]
"""`pixel` of the image as it is stored, `unit` from 0 to 1, `thousand` from 0 to 1000 in whole numbers."""

_SIDES: Final = {"unit": 1.0, "thousand": 1000.0}


def box_from_corner(left: float, top: float, width: float, height: float) -> Box:
    """The box that a corner and its sides describe, as COCO writes it.

    Args:
        left: Left edge.
        top: Upper edge.
        width: Width.
        height: Height.

    Examples:
        >>> box_from_corner(10, 20, 30, 40)
        (10, 20, 40, 60)
    """
    return left, top, left + width, top + height


def rescale_box(
    box: Sequence[float], *, source: BoxScale, target: BoxScale, size: tuple[int, int] | None = None
) -> Box:
    """Bring a box from one scale to another.

    Towards `thousand` it is rounded to whole numbers, so that pixels come back within half a thousandth of a side; a
    box on that scale comes back exactly.

    Args:
        box: Left, top, right, bottom.
        source: Scale of the box.
        target: Scale that is wanted.
        size: Height and width of the image [pixel]; needed from and to pixels.

    Returns:
        The box.

    Raises:
        SettingError: If a scale is unknown or `size` is missing.
        DataError: If the box does not lie in the image, or its edges are out of order.

    Examples:
        >>> rescale_box((64, 0, 128, 120), source="pixel", target="thousand", size=(240, 640))
        (100, 0, 200, 500)
        >>> rescale_box((100, 0, 200, 500), source="thousand", target="unit")
        (0.1, 0.0, 0.2, 0.5)

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.5: boxes on a scale of 0 to 1000. The rounding is ours.
    """
    (width, height), (wide, high) = _sides(source, size), _sides(target, size)
    if len(box) != 4:
        raise DataError(f"box must be left, top, right and bottom, got {list(box)}. Give four numbers.")
    left, top, right, bottom = box
    if not (0 <= left <= right <= width and 0 <= top <= bottom <= height):
        raise DataError(
            f"box must lie in 0 to {width:g} and 0 to {height:g}, left before right and top before bottom, got "
            f"{list(box)}. Check its scale and whether it is written as corner and sides, see box_from_corner."
        )
    scaled = (left / width * wide, top / height * high, right / width * wide, bottom / height * high)
    if target != "thousand":
        return scaled
    first, second, third, fourth = (int(edge + 0.5) for edge in scaled)
    return first, second, third, fourth


def box_text(boxes: Sequence[Sequence[float]], labels: Sequence[str]) -> str:
    """Boxes as a model is to say them: the JSON of Qwen3-VL.

    Args:
        boxes: On the scale `thousand`.
        labels: What each box holds.

    Raises:
        DataError: If there are more or fewer labels than boxes.

    Examples:
        >>> box_text([(100, 0, 200, 500)], ["red cup"])
        '[{"bbox_2d": [100, 0, 200, 500], "label": "red cup"}]'
    """
    if len(boxes) != len(labels):
        raise DataError(f"labels must name each of {len(boxes)} boxes, got {len(labels)}. Give one per box.")
    found = [{"bbox_2d": [int(edge) for edge in box], "label": label} for box, label in zip(boxes, labels, strict=True)]
    return json.dumps(found, ensure_ascii=False)


def read_boxes(text: str) -> list[tuple[Box, str]]:
    """Inverse of `box_text`, for what a model has said.

    Args:
        text: JSON, with a fence of three backticks around it or not.

    Returns:
        Boxes on the scale `thousand`, and their labels.

    Raises:
        DataError: If it is no list of boxes.

    Examples:
        >>> read_boxes(box_text([(100, 0, 200, 500)], ["red cup"]))
        [((100, 0, 200, 500), 'red cup')]
    """
    bare = text.strip().removeprefix("```json").removeprefix("```").removesuffix("```")
    try:
        found = json.loads(bare)
        return [
            ((left, top, right, bottom), entry["label"])
            for entry in found
            for left, top, right, bottom in [entry["bbox_2d"]]
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"text must be a JSON list of bbox_2d and label, got {text!r}. Ask the model again.") from error


def _sides(scale: BoxScale, size: tuple[int, int] | None) -> tuple[float, float]:
    """Width and height of an image on a scale."""
    if scale == "pixel":
        if size is None:
            raise SettingError("size must be given for boxes in pixels, got None. Give height and width of the image.")
        if len(size) != 2 or min(size) < 1:
            raise SettingError(f"size must be two numbers above 0, got {size}. Give height and width of the image.")
        return float(size[1]), float(size[0])
    if scale not in _SIDES:
        raise SettingError(f"scale must be one of ['pixel', 'unit', 'thousand'], got {scale!r}. Check the spelling.")
    return _SIDES[scale], _SIDES[scale]
