"""How the public parts of `vla_kit.data.captions` are built and read."""

import functools
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from contract_cases.probe import Case

from vla_kit.data.captions.annotate import CaptionStages
from vla_kit.data.captions.annotator import AnnotatorMessage
from vla_kit.data.captions.begun_captions import BegunCaptions
from vla_kit.data.captions.caption_log import CaptionLog
from vla_kit.data.captions.caption_mix import CaptionMix, MixedInstructions
from vla_kit.data.captions.caption_record import CaptionRecord
from vla_kit.data.captions.caption_reviews import CaptionReview, CaptionReviews
from vla_kit.data.captions.fine_caption import DIMENSIONS, FineCaption
from vla_kit.data.captions.language_judge import LanguageJudge
from vla_kit.data.captions.looking import FrameChoice
from vla_kit.data.captions.motion_selection import MotionSelection
from vla_kit.data.captions.openai_annotator import OpenAIAnnotator
from vla_kit.data.captions.outline import CaptionOutline
from vla_kit.data.captions.prompt_folder import PromptFolder
from vla_kit.data.captions.review_server import ReviewServer
from vla_kit.data.captions.transformers_annotator import TransformersAnnotator
from vla_kit.data.captions.usage import AnnotationUsage, TokenPrices
from vla_kit.data.memory_source import MemoryEpisode, MemorySource

STEP = {"number": 1, "text": "Grasp the pear.", "contact": "palm", "space": "left", "motion": "down"}
CAPTION = {"dimensions": dict.fromkeys(DIMENSIONS, "not visible"), "steps": [STEP]}
OUTLINE = {"object": "a pear", "actions": ["grasp it"]}
ANNOTATOR = TransformersAnnotator("no-model")  # loads nothing until it is asked


def make_source() -> MemorySource:
    episode = MemoryEpisode(
        columns={"action": np.zeros((3, 2))}, cameras={"top": np.zeros((3, 8, 8, 3), np.uint8)}, instruction="pick"
    )
    return MemorySource([episode] * 2, rate_hz=10)


def make_log(folder: Path) -> CaptionLog:
    log = CaptionLog.begin(folder / "captions", make_source(), {"rate_hz": 10.0})
    record = {"episode": 0, "instruction": "pick", "caption": CAPTION, "outline": OUTLINE}
    record |= {"model": "qwen", "prompts": "5d41", "frames": {"top": [0, 2]}, "usage": {"requests": 2}}
    log.append(CaptionRecord.parse(record))
    return log


def make_reviews(folder: Path) -> Path:
    written = FineCaption.parse(CAPTION)
    path = folder / "reviews.json"
    CaptionReviews(fingerprint="5d41", entries={0: CaptionReview.of(written, written)}).write(path)
    return path


def make_prompts(folder: Path) -> Path:
    PromptFolder().write(folder / "prompts")
    return folder / "prompts"


@functools.wraps(ReviewServer, updated=())
def closed_server(**arguments: Any) -> None:
    ReviewServer(**arguments).server_close()


CASES = [
    Case(
        AnnotationUsage,
        lambda folder: {"requests": 1, "retries": 2, "repairs": 3, "input_tokens": 70, "output_tokens": 9},
        meant=dict.fromkeys(("requests", "retries", "repairs", "input_tokens", "output_tokens"), ("0",)),
    ),
    Case(
        AnnotatorMessage,
        lambda folder: {"role": "user", "parts": ("What is this?",)},
    ),
    Case(
        BegunCaptions,
        lambda folder: {"folder": folder},
        meant={"folder": ("missing",)},  # made with its first file
    ),
    Case(CaptionLog, lambda folder: {"folder": make_log(folder).folder}),
    Case(
        CaptionMix,
        lambda folder: {"root": "captions", "fine": 1.0, "raw": 2.0, "reviewed": True},
    ),
    Case(CaptionReviews.read, lambda folder: {"path": make_reviews(folder)}),
    Case(
        CaptionStages,
        lambda folder: {
            "source": make_source(),
            "annotator": ANNOTATOR,
            "prompts": PromptFolder(),
            "camera": "top",
            "other_cameras": ("top",),
            "recorded_hz": 10.0,
            "frames": FrameChoice(),
            "attempts": 3,
            "begun": BegunCaptions(folder),
            "reading": Lock(),
        },
        meant={"other_cameras": ("empty",)},  # no third pass
    ),
    Case(
        FineCaption.parse,
        lambda folder: {"data": CAPTION},
        named={"data": "caption"},
    ),
    Case(
        FrameChoice,
        lambda folder: {"sparse_hz": 1.0, "dense_hz": 4.0, "most": 96, "width": 512},
    ),
    Case(
        LanguageJudge,
        lambda folder: {
            "annotator": ANNOTATOR,
            "prompts": str(make_prompts(folder)),
            "camera": "top",
            "frames": 16,
            "width": 512,
            "attempts": 3,
        },
    ),
    Case(
        MixedInstructions,
        lambda folder: {"captions": {3: "Step 1: Grasp the pear."}, "share": 0.5},
        meant={"captions": ("empty",)},  # every frame keeps its sentence; `CaptionMix.open` refuses a set without any
    ),
    Case(
        MotionSelection,
        lambda folder: {"share": 0.05, "gripper": (6,), "gripper_weight": 100.0, "steps": 32},
        meant={"gripper": ("empty",)},  # no channel weighs more
    ),
    Case(
        OpenAIAnnotator,
        lambda folder: {
            "model": "qwen",
            "base_url": "http://127.0.0.1:9/v1",
            "api_key_variable": "PATH",  # set on any machine
            "timeout_s": 120.0,
            "retries": 5,
            "max_tokens": 4096,
            "temperature": 0.0,
            "answer_format": "schema",
            "extra_body": {"chat_template_kwargs": {"enable_thinking": False}},
        },
        meant={"retries": ("0",), "extra_body": ("empty",)},
    ),
    Case(
        CaptionOutline.parse,
        lambda folder: {"data": OUTLINE},
        named={"data": "outline"},
    ),
    Case(
        CaptionRecord.parse,
        lambda folder: {"data": make_log(folder).records[0].plain()},
    ),
    Case(
        PromptFolder,
        lambda folder: {"folder": make_prompts(folder)},
        named={"folder": "prompts"},  # as the setting is named that holds it
    ),
    Case(
        closed_server,
        lambda folder: {"source": make_source(), "log": make_log(folder), "port": 0},
        meant={"port": ("0",)},  # any that is free
    ),
    Case(TokenPrices, lambda folder: {"input": 0.5, "output": 3.0}),
    Case(
        TransformersAnnotator,
        lambda folder: {
            "checkpoint": "Qwen/Qwen3-VL-4B-Instruct",
            "revision": "main",
            "device": "cpu",
            "dtype": "bfloat16",
            "max_tokens": 2048,
        },
    ),
]
WITHOUT_CASE: dict[str, str] = {
    "vla_kit.data.captions.annotator.AnnotatorAnswer": "what a model has said, which `ask` reads and checks",
    "vla_kit.data.captions.caption_record.CaptionRecord": "filled by CaptionStages; `parse` checks that of a file",
    "vla_kit.data.captions.caption_reviews.CaptionReview": "made by `of`; from a file by `CaptionReviews.read`",
    "vla_kit.data.captions.caption_reviews.CaptionReviews": "filled by ReviewServer; from a file by `read`",
    "vla_kit.data.captions.fine_caption.CaptionDimensions": "a part that `FineCaption.parse` reads and checks",
    "vla_kit.data.captions.fine_caption.CaptionStep": "a part that `FineCaption.parse` reads and checks",
    "vla_kit.data.captions.fine_caption.FineCaption": "what a model or a person writes; `parse` reads and checks it",
    "vla_kit.data.captions.outline.CaptionOutline": "what a model writes; `parse` reads and checks it",
}
