"""What a good model would say, as a script for the endpoint."""

import json
from typing import Any

from scripted_endpoint import Reply, words_of

from vla_kit.data.captions.fine_caption import DIMENSIONS


def stage_of(body: dict[str, Any]) -> str:
    """Which of our prompts a request holds."""
    words = words_of(body)
    marks = {
        "watch": "You watch an episode",
        "describe": "You describe an episode",
        "other_views": "You check the description",
        "judge_language": "You check the sentence",
        "judge_caption": "Compare the description",
    }
    return next(stage for stage, mark in marks.items() if mark in words)


def told(body: dict[str, Any]) -> str:
    """The sentence of the data set in a request."""
    return words_of(body).split('"')[1]


def outline_of(sentence: str) -> str:
    return json.dumps({"object": f"the thing of {sentence!r}", "actions": ["reach", "do it"]})


def caption_of(sentence: str, mark: str = "seen") -> dict[str, Any]:
    step = {"contact": "palm on the body", "space": "left of the plate", "motion": "down, slowly"}
    return {
        "dimensions": {name: f"{name} {mark}" for name in DIMENSIONS},
        "steps": [{"number": 1, "text": f"Reach to {sentence}.", **step}, {"number": 2, "text": "Do it.", **step}],
    }


def answer_well(number: int, body: dict[str, Any]) -> Reply:
    """A script without any fault."""
    stage = stage_of(body)
    if stage == "watch":
        return Reply(outline_of(told(body)))
    return Reply(json.dumps(caption_of(told(body), "seen at the wrist" if stage == "other_views" else "seen")))
