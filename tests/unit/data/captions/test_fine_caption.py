"""The schema of captions: faults are named, and what is written is what is read."""

import json
from dataclasses import fields

import pytest

from vla_kit.data.captions._fields import json_of
from vla_kit.data.captions.fine_caption import DIMENSIONS, CaptionDimensions, FineCaption
from vla_kit.data.captions.outline import CaptionOutline
from vla_kit.errors import DataError


def step(number, text="Grasp the pear."):
    return {"number": number, "text": text, "contact": "palm", "space": "on the counter", "motion": "down, slowly"}


def plain(**changed):
    made = {"dimensions": {name: f"the {name}" for name in DIMENSIONS}, "steps": [step(1), step(2, "Lift it.")]}
    return {**made, **changed}


def test_there_are_thirteen_dimensions_and_the_type_has_the_same():
    assert len(DIMENSIONS) == 13
    assert [field.name for field in fields(CaptionDimensions)] == list(DIMENSIONS)


def test_a_caption_survives_json():
    caption = FineCaption.parse(json.loads(json.dumps(plain())))
    assert FineCaption.parse(caption.plain()) == caption
    assert caption.plain() == plain()
    assert caption.dimensions.actor == "the actor"
    assert caption.instruction == "Step 1: Grasp the pear. Step 2: Lift it."


def test_white_space_of_a_text_does_not_matter():
    assert FineCaption.parse(plain(steps=[step(1, "  Grasp\n the pear. ")])).steps[0].text == "Grasp the pear."


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (None, r"it must be an object with \['dimensions', 'steps'\], got None"),
        ({"steps": [step(1)]}, r"it must have \['dimensions'\], which are missing"),
        (plain(note="?"), r"it must have no \['note'\]"),
        (plain(dimensions=dict.fromkeys(list(DIMENSIONS)[1:], "x")), r"dimensions must have \['action_primitive'\]"),
        (plain(dimensions={**plain()["dimensions"], "actor": 3}), r"dimensions\.actor must be a text, got 3"),
        (plain(dimensions={**plain()["dimensions"], "actor": "a" * 1001}), r"at most 1000 characters, got 1001"),
        (plain(steps=[]), r"steps must be a list of 1 to 40 entries, got 0 entries"),
        (plain(steps="grasp"), r"steps must be a list of 1 to 40 entries, got 'grasp'"),
        (plain(steps=[step(1)] * 41), r"steps must be a list of 1 to 40 entries, got 41 entries"),
        (plain(steps=[step(1), step(3)]), r"steps\[1\]\.number must be 2, got 3"),
        (plain(steps=[step(True)]), r"steps\[0\]\.number must be 1, got True"),
        (plain(steps=["grasp"]), r"steps\[0\] must be an object with \['number', 'text', .*\], got 'grasp'"),
        (plain(steps=[{**step(1), "space": " "}]), r"steps\[0\]\.space must be a text, got ' '"),
    ],
)
def test_a_fault_is_named(data, fault):
    with pytest.raises(DataError, match=rf"caption must be as described, got \d+ faults?: .*{fault}"):
        FineCaption.parse(data)


def test_all_faults_are_named_at_once():
    with pytest.raises(DataError, match="got 3 faults"):
        FineCaption.parse({"dimensions": [], "steps": [step(4)], "note": ""})


def test_an_outline_survives_json_and_its_faults_are_named():
    outline = {"object": "a pear", "actions": ["grasp it", "place it"]}
    assert CaptionOutline.parse(outline).plain() == outline
    with pytest.raises(DataError, match=r"outline must .*: actions\[1\] must be a text, got 7"):
        CaptionOutline.parse({"object": "a pear", "actions": ["grasp it", 7]})
    with pytest.raises(DataError, match=r"must have \['object'\], .*; actions must be a list of 1 to 40"):
        CaptionOutline.parse({"actions": []})


def keys(schema):
    """Object of a schema -> its keys, with what stands inside lists."""
    if schema["type"] == "array":
        return [keys(schema["items"])]
    if schema["type"] != "object":
        return schema["type"]
    assert schema["required"] == list(schema["properties"])
    assert schema["additionalProperties"] is False
    return {name: keys(inner) for name, inner in schema["properties"].items()}


def test_the_schema_asks_for_what_is_read():
    parts = {"number": "integer", "text": "string", "contact": "string", "space": "string", "motion": "string"}
    assert keys(FineCaption.schema()) == {"dimensions": dict.fromkeys(DIMENSIONS, "string"), "steps": [parts]}
    assert keys(CaptionOutline.schema()) == {"object": "string", "actions": ["string"]}
    json.dumps(FineCaption.schema())


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1}',
        'Sure!\n```json\n{"a": 1}\n```\nDone.',
        '```\n{"a": 1}```',
        '<think>{"a": 2} no, {</think>{"a": 1}',
        'The answer is {"a": 1}.',
    ],
)
def test_json_is_found_in_an_answer(text):
    assert json_of(text) == {"a": 1}


@pytest.mark.parametrize("text", ["", "I cannot see it.", '{"a": ', "```json\n[1]\n```"])
def test_an_answer_without_an_object_is_refused(text):
    with pytest.raises(DataError, match="answer must be one JSON object, got "):
        json_of(text)
