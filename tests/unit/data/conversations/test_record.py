"""The same conversation in every form gives the same turns."""

import pytest

from vla_kit.data.conversations import read_record
from vla_kit.errors import DataError

WANTED = [
    ("user", ["a.jpg", "What is it?", "b.jpg"]),
    ("assistant", ["A cup."]),
    ("user", ["Red?"]),
    ("assistant", ["No."]),
]
ASKED, MORE = "<image>\nWhat is it?<image>", "Red?"
LLAVA = {
    "id": 1,
    "image": ["a.jpg", "b.jpg"],
    "conversations": [
        {"from": "human", "value": ASKED},
        {"from": "gpt", "value": " A cup.\n"},
        {"from": "human", "value": MORE},
        {"from": "gpt", "value": "No."},
    ],
}
SHAREGPT = {
    "images": ["a.jpg", "b.jpg"],
    "conversations": [
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": "A cup."},
        {"from": "user", "value": MORE},
        {"from": "model", "value": "No."},
    ],
}
QWEN = {
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "image", "image": "a.jpg"},
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": "b.jpg"}},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "A cup."}]},
        {"role": "user", "content": MORE},
        {"role": "assistant", "content": "No."},
    ]
}
TABLE = {  # a row of a parquet file: absent keys are None
    "images": None,
    "system": None,
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "image", "image": "a.jpg", "text": None},
                {"type": "text", "image": None, "text": "What is it?"},
                {"type": "image", "image": "b.jpg", "text": None},
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "image": None, "text": "A cup."}]},
        {"role": "user", "content": [{"type": "text", "image": None, "text": MORE}]},
        {"role": "assistant", "content": [{"type": "text", "image": None, "text": "No."}]},
    ],
}


def shown(record):
    turns = read_record(record, where="file, record 3")
    return [(turn.role, [part if isinstance(part, str) else part.source for part in turn.content]) for turn in turns]


@pytest.mark.parametrize("record", [LLAVA, SHAREGPT, QWEN, TABLE], ids=["llava", "sharegpt", "qwen", "table"])
def test_every_form_says_the_same(record):
    assert shown(record) == WANTED


def test_pictures_without_a_marker_come_first():
    record = {"images": ["a.jpg", "b.jpg"], "system": "Be brief.", "messages": LLAVA["conversations"][2:]}
    assert shown(record)[:2] == [("system", ["Be brief."]), ("user", ["a.jpg", "b.jpg", "Red?"])]


def test_videos_have_markers_of_their_own():
    asked = [{"from": "human", "value": "<video><image> same?"}, {"from": "gpt", "value": "yes"}]
    turn = read_record({"image": "a.jpg", "video": "b.mp4", "conversations": asked}, where="x")[0]
    assert [(part.kind, part.source) for part in turn.content[:2]] == [("video", "b.mp4"), ("image", "a.jpg")]
    assert turn.content[2] == "same?"


def test_tags_of_cameras_and_instants():
    part = {"type": "image", "image": "a.jpg", "view": "cam_front", "instant": 2}
    film = {"type": "video", "video": ["a.jpg", "b.jpg"], "fps": 2.0}
    record = {"messages": [{"role": "user", "content": [part, film]}, {"role": "assistant", "content": "yes"}]}
    first, second = read_record(record, where="x")[0].content
    assert (first.view, first.instant, first.kind) == ("cam_front", 2, "image")
    assert (second.rate_hz, second.kind, second.source) == (2.0, "video", ["a.jpg", "b.jpg"])


def talk(*messages, **beside):
    return {"messages": [{"role": role, "content": content} for role, content in messages], **beside}


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"question": "a"}, r"hold messages or conversations, got the keys \['question'\]"),
        ({"messages": []}, "hold messages or conversations"),
        (talk(("tool", "a")), "got 'tool'"),
        (talk(("user", "a")), r"must hold an answer, got the roles \['user'\]"),
        (talk(("user", "a"), ("assistant", "  ")), "answers of words alone"),
        (talk(("user", "a"), ("assistant", [{"type": "image", "image": "b"}])), "answers of words alone"),
        (talk(("user", 3), ("assistant", "b")), "text or parts as content, got 3"),
        (talk(("user", [{"type": "audio"}]), ("assistant", "b")), "parts with text, image or video"),
        (talk(("user", "<image>a"), ("assistant", "b"), images=["a", "b"]), r"one <image> per picture \(2\), got 1"),
        (talk(("user", "<image>a"), ("assistant", "b")), "a picture for each <image>, got none"),
        ({"messages": ["a"]}, "messages with roles, got 'a'"),
    ],
)
def test_what_cannot_be_read_is_named(record, text):
    with pytest.raises(DataError, match=text) as error:
        read_record(record, where="file, record 3")
    assert str(error.value).startswith("file, record 3 must")
