"""A model as a rule of cleaning, against a real server that answers from a script."""

import json

import numpy as np
import pytest
from jsonargparse import auto_cli
from scripted_endpoint import Reply, ScriptedEndpoint, parts_of, pictures_of, words_of

from vla_kit.data.captions.language_judge import LanguageJudge
from vla_kit.data.captions.openai_annotator import OpenAIAnnotator
from vla_kit.data.cleaning import Decisions, find_faults, find_roles
from vla_kit.data.cleaning.clean import clean
from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.errors import AnnotatorError


def verdict(agrees, fault="none", reason="The robot does so."):
    return Reply(json.dumps({"agrees": agrees, "fault": fault, "reason": reason}))


def by_sentence(number, body):
    if '"push left"' in words_of(body):
        return verdict(False, "direction", "It pushes right.")
    return verdict(True)


def make(sentences, cameras=("top",)):
    pictures = {key: np.full((9, 8, 40, 3), 7, dtype=np.uint8) for key in cameras}
    return MemorySource(
        [MemoryEpisode(columns={"action": np.zeros((9, 1))}, cameras=pictures, instruction=text) for text in sentences]
    )


def found(script, source, **settings):
    with ScriptedEndpoint(script) as endpoint:
        rule = LanguageJudge(annotator=OpenAIAnnotator("qwen", base_url=endpoint.url, retries=0), **settings)
        faults = find_faults(source, [rule], roles=find_roles(source))
    return faults, endpoint.bodies


def test_episodes_that_the_model_calls_wrong_are_dropped_with_the_reason():
    faults, bodies = found(by_sentence, make(["push left", "", "push right"]), frames=3, width=20)
    assert faults.rules[0].judgement.values == (1.0, None, 0.0)
    assert faults.decisions().dropped == {0}
    assert faults.rules[0].judgement.note == "Wrong: direction 1. Episode 0, direction: It pushes right."
    assert [pictures_of(body) for body in bodies] == [3, 3]
    assert [part["text"] for part in parts_of(bodies[0]) if part["type"] == "text"][:3] == [
        "frame 0:",
        "frame 4:",
        "frame 8:",
    ]
    assert faults.decisions().rules[0]["init_args"]["annotator"].startswith("OpenAIAnnotator('qwen', base_url=")


def test_an_answer_that_cannot_be_used_is_asked_for_again_and_then_counts_as_not_measured():
    faults, bodies = found(
        lambda number, body: (
            [verdict("yes"), verdict(True, "colour"), verdict(False, "object", "A cup.")][number % 3]
            if number < 3
            else Reply("no")
        ),
        make(["pick the pear", "pick the cup"]),
    )
    assert faults.rules[0].judgement.values == (1.0, None)
    assert "agrees must be true or false, got 'yes'" in words_of(bodies[1])
    assert "fault must be one of ['none', 'object'" in words_of(bodies[2])
    assert "must answer as asked, got no such answer in 3" in faults.rules[0].unmeasured[1]


def test_without_a_camera_nothing_is_asked():
    faults, bodies = found(by_sentence, make(["push left"], cameras=()))
    assert faults.rules[0].judgement.values == (None,)
    assert bodies == []


def test_an_endpoint_that_is_gone_ends_the_run():
    with pytest.raises(AnnotatorError, match="got 401"):
        found(lambda number, body: Reply("no key", status=401), make(["push left"]))


def test_it_writes_the_decision_file_of_cleaning(write_set, tmp_path):
    root, _ = write_set(words="push")  # "push 0", "push 1", "push 0"

    def script(number, body):
        return verdict('"push 1"' not in words_of(body), "count", "Two are there.")

    with ScriptedEndpoint(script) as endpoint:
        (tmp_path / "rules.yaml").write_text(
            "rules:\n"
            "  - class_path: vla_kit.data.captions.language_judge.LanguageJudge\n"
            "    init_args:\n"
            "      camera: observation.images.top\n"
            "      annotator:\n"
            "        class_path: vla_kit.data.captions.openai_annotator.OpenAIAnnotator\n"
            f"        init_args: {{model: qwen, base_url: {endpoint.url}}}\n"
        )
        arguments = ["--root", str(root), "--output", str(tmp_path / "out"), "--config", str(tmp_path / "rules.yaml")]
        auto_cli(clean, args=arguments, as_positional=False)
    decisions = Decisions.read(tmp_path / "out" / "decisions.json")
    assert [(entry.episode, entry.rule) for entry in decisions.entries] == [(1, "language_judge")]
    assert "Two are there." in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
