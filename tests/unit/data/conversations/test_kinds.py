"""Records of every kind, read back from a file with their pictures."""

import numpy as np
import pytest
from PIL import Image

from vla_kit.backbones.tiny import tiny_qwen3_vl
from vla_kit.data.conversations import (
    caption_record,
    driving_record,
    ocr_record,
    question_record,
    read_boxes,
    referring_record,
    region_record,
    spatial_record,
    trajectory_record,
    write_records,
)
from vla_kit.data.conversations.source import ConversationSource
from vla_kit.errors import DataError

BOX = (64, 0, 128, 120)
SURROUND = {"cam_front": ["0.png", "1.png"], "cam_back": ["2.png", "3.png"]}
RECORDS = {
    "caption": caption_record("0.png", "Two cups.", number=4),
    "question": question_record(["0.png", "1.png"], "Same?", "No."),
    "words": question_record([], "2 + 2?", "4"),
    "text": ocr_record("0.png", ["EXIT", "12"]),
    "located text": ocr_record("0.png", ["EXIT"], boxes=[BOX], size=(240, 640)),
    "referring": referring_record("0.png", "the cup", [BOX, (0, 0, 640, 240)], size=(240, 640), number=1),
    "region": region_record("0.png", (0.1, 0.0, 0.2, 0.5), "a cup", scale="unit"),
    "spatial": spatial_record("0.png", "the cup", "left of", "the bowl", number=2),
    "driving": driving_record(SURROUND, "Is it safe to turn?", "No, a car comes."),
    "one instant": driving_record({"cam_front": "0.png", "cam_back": "1.png"}, "Stop?", "Yes."),
    "trajectory": trajectory_record(
        {"cam_front": "0.png"}, [(1.5, 0.0), (3.0, -0.246)], step_s=0.5, command="turn right", speed_mps=3
    ),
}
ANSWERS = {
    "caption": "Two cups.",
    "text": "EXIT\n12",
    "located text": '[{"bbox_2d": [100, 0, 200, 500], "label": "EXIT"}]',
    "region": "a cup",
    "spatial": "The cup is left of the bowl.",
    "trajectory": "[(1.50, 0.00), (3.00, -0.25)]",
}


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    assert write_records(RECORDS.values(), tmp_path / "kinds.jsonl") == len(RECORDS)
    return ConversationSource(tmp_path / "kinds.jsonl")


def test_every_kind_reaches_the_backbone(source):
    backbone = tiny_qwen3_vl(corpus=[], view_tags=["cam_front", "cam_back"], image_size=32, hidden=32, vision_layers=1)
    conversations = [source[index].conversation for index in range(len(source))]
    assert len(conversations) == len(RECORDS)
    inputs = backbone.prepare(conversations, with_labels=True)
    for name, row in zip(RECORDS, inputs["labels"], strict=True):
        said = backbone.tokenizer.decode(row[row != -100].tolist())
        assert said == RECORDS[name]["messages"][1]["content"] == ANSWERS.get(name, said)
    pictures = sum(len(record["messages"][0]["content"]) - 1 for name, record in RECORDS.items() if name != "words")
    assert len(inputs["image_grid_thw"]) == pictures == 15


def test_a_driving_question_shows_cameras_instant_by_instant(source):
    seen = source[list(RECORDS).index("driving")].conversation.messages[0].content
    assert [(part.view, part.instant) for part in seen[:-1]] == [
        ("cam_front", 0),
        ("cam_back", 0),
        ("cam_front", 1),
        ("cam_back", 1),
    ]
    alone = source[list(RECORDS).index("one instant")].conversation.messages[0].content
    assert [(part.view, part.instant) for part in alone[:-1]] == [("cam_front", None), ("cam_back", None)]


def test_a_trajectory_asks_for_what_it_says():
    question = RECORDS["trajectory"]["messages"][0]["content"][-1]["text"]
    assert question == (
        "The car drives 3.0 m/s. The driver wants to turn right. Where does the car drive in the next 1 s? Give a "
        "point every 0.5 s, in metres ahead and to the left."
    )


def test_boxes_are_on_the_scale_of_a_thousand():
    said = read_boxes(RECORDS["referring"]["messages"][1]["content"])
    assert said == [((100, 0, 200, 500), "the cup"), ((0, 0, 1000, 1000), "the cup")]
    assert "[100, 0, 200, 500]" in RECORDS["region"]["messages"][0]["content"][-1]["text"]


def test_wordings_follow_the_number():
    asked = {caption_record("a", "b", number=number)["messages"][0]["content"][-1]["text"] for number in range(9)}
    assert len(asked) == 3


def test_refused():
    with pytest.raises(DataError, match="question must hold words"):
        question_record([], " ", "a")
    with pytest.raises(DataError, match="answer must hold words"):
        caption_record("a.jpg", "")
    with pytest.raises(DataError, match=r"as many images each, got \{'cam_front': 2, 'cam_back': 1\}"):
        driving_record({"cam_front": ["a", "b"], "cam_back": ["c"]}, "a", "b")
    with pytest.raises(DataError, match="at least one point"):
        trajectory_record({"cam_front": "a"}, [], step_s=0.5)
    with pytest.raises(DataError, match="name each of 1 boxes, got 2"):
        ocr_record("a", ["b", "c"], boxes=[BOX], size=(240, 640))
