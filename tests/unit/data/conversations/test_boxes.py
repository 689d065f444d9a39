import random

import pytest

from vla_kit.data.conversations import box_from_corner, box_text, read_boxes, rescale_box
from vla_kit.errors import DataError, SettingError

SIZE = (480, 640)


def test_pixels_by_hand():
    assert rescale_box((320, 120, 640, 480), source="pixel", target="thousand", size=SIZE) == (500, 250, 1000, 1000)
    assert rescale_box((0.5, 0.25, 1, 1), source="unit", target="pixel", size=SIZE) == (320, 120, 640, 480)
    assert rescale_box((1, 1, 2, 2), source="pixel", target="thousand", size=(1000, 3)) == (333, 1, 667, 2)


@pytest.mark.parametrize("scale", ["pixel", "unit"])
def test_whole_thousandths_come_back_exactly(scale):
    random.seed(0)
    for _ in range(500):
        size = (random.randint(1, 5000), random.randint(1, 5000))
        left, right = sorted(random.randint(0, 1000) for _ in range(2))
        top, bottom = sorted(random.randint(0, 1000) for _ in range(2))
        there = rescale_box((left, top, right, bottom), source="thousand", target=scale, size=size)
        back = rescale_box(there, source=scale, target="thousand", size=size)
        assert back == (left, top, right, bottom)
        assert all(isinstance(edge, int) for edge in back)


def test_pixels_come_back_within_half_a_thousandth():
    random.seed(1)
    for _ in range(500):
        height, width = random.randint(1, 5000), random.randint(1, 5000)
        box = (
            *sorted(random.uniform(0, width) for _ in range(2)),
            *sorted(random.uniform(0, height) for _ in range(2)),
        )
        box = (box[0], box[2], box[1], box[3])
        there = rescale_box(box, source="pixel", target="thousand", size=(height, width))
        back = rescale_box(there, source="thousand", target="pixel", size=(height, width))
        sides = (width, height, width, height)
        assert all(abs(one - two) <= side / 2000 + 1e-9 for one, two, side in zip(box, back, sides, strict=True))


def test_a_corner_and_sides():
    assert box_from_corner(1, 2, 3, 4) == (1, 2, 4, 6)


@pytest.mark.parametrize(
    ("box", "text"),
    [
        ((0, 0, 641, 10), "lie in 0 to 640"),
        ((5, 0, 4, 10), "left before right"),
        ((0, -1, 4, 10), "0 to 480"),
        ((1, 2), "four"),
    ],
)
def test_a_box_outside_is_refused(box, text):
    with pytest.raises(DataError, match=text):
        rescale_box(box, source="pixel", target="thousand", size=SIZE)


def test_settings_are_checked():
    with pytest.raises(SettingError, match="size must be given for boxes in pixels"):
        rescale_box((0, 0, 1, 1), source="pixel", target="unit")
    with pytest.raises(SettingError, match="got 'percent'"):
        rescale_box((0, 0, 1, 1), source="percent", target="unit")


def test_text_and_back():
    boxes, labels = [(1, 2, 3, 4), (0, 0, 1000, 1000)], ["größe", 'a "cup"']
    text = box_text(boxes, labels)
    assert read_boxes(text) == read_boxes(f"```json\n{text}\n```") == list(zip(boxes, labels, strict=True))
    assert read_boxes("[]") == []
    for wrong in ("no", "[1]", '[{"bbox_2d": [1, 2], "label": "a"}]', '[{"label": "a"}]'):
        with pytest.raises(DataError, match="text must be a JSON list"):
            read_boxes(wrong)
    with pytest.raises(DataError, match="name each of 2 boxes, got 1"):
        box_text(boxes, ["one"])
