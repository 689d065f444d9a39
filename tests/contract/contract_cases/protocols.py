"""How what parts hand to each other is built, and who refuses it where it is wrong.

Observations, conversations and contexts are bundles: what reads them checks them, once. Each case names its reader.
"""

import functools
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from contract_cases.backbones import paligemma, shared_qwen
from contract_cases.heads import SIZES
from contract_cases.probe import Case

from vla_kit.backbones.timm_vit import TimmBackbone
from vla_kit.heads import DiTHead, StateTokenHead
from vla_kit.protocols import Context, Conversation, Message, Observation, Picture


def read_by(bundle: type, read: Callable[[Any], Any]) -> Callable[..., Any]:
    """A bundle that is read as soon as it is built."""

    @wraps(bundle)
    def built(**given: Any) -> Any:
        return read(bundle(**given))

    return built


def frames(count: int) -> torch.Tensor:
    return torch.zeros(count, 3, 32, 32, dtype=torch.uint8)


def by_head(context: Context) -> torch.Tensor:
    head = StateTokenHead(DiTHead(**SIZES), state_channels=6)
    return head(torch.zeros(2, 3, 4), torch.ones(2), context, torch.ones(2, 3, 4, dtype=torch.bool))


@functools.cache
def timm() -> TimmBackbone:
    return TimmBackbone("test_vit", corpus=[], view_tags=["ego"], image_size=32, width=16, heads=2, text_layers=1)


VIEWS_ALONE, WORDS_ALONE = ("empty",), ("empty",)  # of an observation without prompt, and of one without views

CASES = [
    Case(
        read_by(Context, by_head),
        lambda folder: {
            "hidden": torch.zeros(2, 5, 32),
            "mask": torch.ones(2, 5, dtype=torch.bool),
            "position_ids": torch.arange(5).expand(3, 2, 5).clone(),
            "embodiments": ("arm", "arm"),
            "state": torch.zeros(2, 6),
            "state_mask": torch.ones(2, 6, dtype=torch.bool),
        },
        meant={"embodiments": ("empty",), "hidden": ("nan",), "state": ("nan",)},  # no value is read on the hot path
        left={"logits": "no head reads them", "language_loss": "no head reads it"},
    ),
    Case(
        read_by(Conversation, lambda one: shared_qwen().prepare([one])),
        lambda folder: {"messages": (Message(role="user", content=("push",)),)},
    ),
    Case(
        read_by(Message, lambda one: shared_qwen().prepare([Conversation(messages=(one,))])),
        lambda folder: {"role": "user", "content": ("push", Picture(pixels=frames(1)[0]))},
        meant={"content": ("empty",)},  # an empty turn, as conversations of others have them
    ),
    Case(
        read_by(Observation, lambda one: shared_qwen().prepare([one])),
        lambda folder: {"prompt": "push", "views": {"ego": frames(2)}, "frame_rate_hz": 2.0},
        meant={"prompt": VIEWS_ALONE, "views": WORDS_ALONE},
    ),
    Case(
        read_by(Observation, lambda one: paligemma().prepare([one])),
        lambda folder: {"prompt": "push", "views": {"ego": frames(2)}},
        meant={"prompt": VIEWS_ALONE, "views": WORDS_ALONE},
        left={"frame_rate_hz": "frames are images to it"},
    ),
    Case(
        read_by(Observation, lambda one: timm().prepare([one])),
        lambda folder: {"prompt": "push", "views": {"ego": frames(1)[0]}},
        meant={"prompt": VIEWS_ALONE, "views": WORDS_ALONE},
        left={"frame_rate_hz": "it takes one frame"},
    ),
    Case(
        read_by(
            Picture,
            lambda one: shared_qwen().prepare([Conversation(messages=(Message(role="user", content=(one, "push")),))]),
        ),
        lambda folder: {"pixels": frames(2), "view": "ego", "instant": 1, "rate_hz": 2.0},
        meant={"instant": ("0",)},
        named={"pixels": "views", "view": "tag", "instant": "index"},
    ),
]
WITHOUT_CASE: dict[str, str] = {}
