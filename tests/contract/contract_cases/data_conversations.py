"""How the public parts of `vla_kit.data.conversations` are built and read."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
from contract_cases.probe import Case

from vla_kit.data.conversations import (
    ConversationSet,
    PictureSource,
    question_record,
    read_record,
    rescale_box,
    trajectory_record,
    write_records,
)
from vla_kit.data.conversations.pictures import read_picture
from vla_kit.data.conversations.source import ConversationSource
from vla_kit.data.video_pyav import PyAVEncoder

RECORD = question_record([], "2 + 2?", "4")


def make_records(folder: Path) -> Path:
    write_records([RECORD], folder / "sums.jsonl")
    return folder / "sums.jsonl"


def make_film(folder: Path) -> Path:
    with PyAVEncoder(folder / "film.mp4", rate_hz=10, height=16, width=16) as encoder:
        encoder.write(np.zeros((5, 16, 16, 3), np.uint8))
    return folder


@functools.wraps(ConversationSet, updated=())
def opened_set(**arguments: Any) -> ConversationSource:
    return ConversationSet(**arguments).open()


CASES = [
    Case(
        opened_set,
        lambda folder: {
            "path": str(make_records(folder)),
            "weight": 1.0,
            "name": "sums",
            "split": "train",
            "pictures_root": str(folder),
            "rate_hz": 2.0,
            "max_frames": 16,
            "num_conversations": 1,
        },
        meant={"name": ("empty",), "split": ("empty",)},  # that of the file, which has no splits
    ),
    Case(
        ConversationSource,
        lambda folder: {
            "path": make_records(folder),
            "split": "train",
            "name": "sums",
            "pictures_root": folder,
            "rate_hz": 2.0,
            "max_frames": 16,
        },
        meant={"name": ("empty",), "split": ("empty",)},  # that of the file, which has no splits
    ),
    Case(
        PictureSource,
        lambda folder: {"kind": "video", "source": "film.mp4", "view": "ego", "instant": 1, "rate_hz": 2.0},
        meant={"instant": ("0",), "source": ("empty",)},  # `read_picture` checks what it names
    ),
    Case(
        read_picture,
        lambda folder: {
            "picture": PictureSource(kind="video", source="film.mp4"),
            "root": make_film(folder),
            "where": "films.jsonl, record 3",
            "rate_hz": 2.0,
            "max_frames": 16,
        },
        meant={"where": ("empty",)},  # only the beginning of messages
        named={"root": "films.jsonl, record 3"},  # the root is that of the set, the path that of the record
    ),
    Case(
        read_record,
        lambda folder: {"record": RECORD, "where": "sums.jsonl, record 3"},
        meant={"where": ("empty",)},  # only the beginning of messages
        named={"record": "sums.jsonl, record 3"},
    ),
    Case(
        rescale_box,
        lambda folder: {"box": (64.0, 0.0, 128.0, 120.0), "source": "pixel", "target": "thousand", "size": (240, 640)},
        named={"source": "scale", "target": "scale"},
    ),
    Case(
        trajectory_record,
        lambda folder: {
            "cameras": {"cam_front": "0.jpg"},
            "waypoints": [(1.5, 0.0), (3.0, 0.24)],
            "step_s": 0.5,
            "command": "turn left",
            "speed_mps": 3.0,
        },
        meant={"command": ("empty",), "cameras": ("empty",)},  # the driver wants nothing; a question without pictures
    ),
    Case(
        write_records,
        lambda folder: {"records": [RECORD], "path": folder / "sums.jsonl", "mode": "w"},
        meant={
            "records": ("empty",),  # a shard may have none; `ConversationSource` refuses the file
            "path": ("missing",),  # a new file
        },
    ),
]
WITHOUT_CASE: dict[str, str] = {
    "vla_kit.data.conversations.record.Turn": "made by `read_record`, which checks",
    "vla_kit.data.conversations.sample.ConversationSample": "made by ConversationSource, which checks what it reads",
}
