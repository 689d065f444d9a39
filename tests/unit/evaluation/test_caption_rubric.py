"""Scores of captions against references."""

import json
from dataclasses import replace

import numpy as np
import pytest

from vla_kit.data.captions import DIMENSIONS, AnnotatorAnswer, CaptionLog, FineCaption
from vla_kit.data.captions.caption_record import CaptionRecord
from vla_kit.data.captions.caption_reviews import CaptionReview, CaptionReviews
from vla_kit.data.captions.outline import CaptionOutline
from vla_kit.data.captions.usage import AnnotationUsage
from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.errors import DataError
from vla_kit.evaluation.caption_rubric import caption_overlap, judge_caption, score_captions, write_rubric
from vla_kit.metrics import wilson_interval

KEYS = [*DIMENSIONS, "steps"]


def made(**dimensions):
    step = {"number": 1, "text": "Lift the cup.", "contact": "palm", "space": "above", "motion": "up"}
    return FineCaption.parse({"dimensions": {**dict.fromkeys(DIMENSIONS, "none"), **dimensions}, "steps": [step]})


class Scripted:
    model = "scripted"

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def answer(self, messages, *, schema=None):
        self.asked.append(messages)
        return AnnotatorAnswer(text=json.dumps(self.answers[len(self.asked) - 1]))


def verdicts(**wrong):
    return {key: key not in wrong for key in KEYS}


def test_overlap_counts_words_without_articles_and_case():
    shares = caption_overlap(made(actor="The left arm, left", object="a pear"), made(actor="left ARM", object="cup"))
    assert list(shares) == KEYS
    assert shares["actor"] == pytest.approx(2 * 2 / (3 + 2))
    assert shares["object"] == 0
    assert shares["steps"] == shares["approach"] == 1
    assert caption_overlap(made(actor="the"), made(actor="a"))["actor"] == 1


def test_steps_count_all_their_words():
    one, other = made(), made()
    other = replace(other, steps=(replace(other.steps[0], motion="down"),))
    assert caption_overlap(one, other)["steps"] == pytest.approx(2 * 4 / 10)  # lift cup palm above, and up or down


def test_words_have_a_bootstrap_interval_over_episodes():
    references = {index: made(actor="left arm") for index in range(20)}
    candidates = {index: made(actor="left arm" if index % 4 else "right hand") for index in range(25)}
    scores = {score.dimension: score for score in score_captions(candidates, references)}
    assert list(scores) == KEYS
    actor = scores["actor"]
    assert (actor.score, actor.episodes) == (0.75, 20)
    error = np.sqrt(0.75 * 0.25 / 20)
    assert actor.low == pytest.approx(0.75 - 1.96 * error, abs=0.06)
    assert actor.high == pytest.approx(0.75 + 1.96 * error, abs=0.06)
    assert (scores["object"].low, scores["object"].high) == (1, 1)
    assert score_captions(candidates, references) == list(scores.values())


def test_the_judge_has_wilsons_interval_and_sees_both_captions():
    candidates = {0: made(actor="left"), 1: made(actor="right"), 2: made()}
    references = {0: made(actor="the left one"), 1: made(actor="left")}
    judge = Scripted(verdicts(), verdicts(actor=False))
    scores = {score.dimension: score for score in score_captions(candidates, references, annotator=judge)}
    low, high = wilson_interval(1, 2)
    assert (scores["actor"].score, scores["actor"].low, scores["actor"].high) == (0.5, low, high)
    assert scores["steps"].low == wilson_interval(2, 2)[0]
    words = judge.asked[1][0].parts[0]
    assert json.dumps(candidates[1].plain()) in words
    assert json.dumps(references[1].plain()) in words
    assert all(key in words for key in KEYS)


def test_a_verdict_that_is_missing_is_asked_for_again():
    judge = Scripted({"actor": True}, {**verdicts(), "extra": True}, verdicts(object=False))
    assert judge_caption(judge, made(), made()) == verdicts(object=False)
    assert "answer must have true or false for each of" in judge.asked[1][-1].parts[0]


def test_no_common_episode_is_refused():
    with pytest.raises(DataError, match="references must be of episodes that have captions, got none in common"):
        score_captions({0: made()}, {1: made()})


def write(folder, source, captions, accepted):
    log = CaptionLog.begin(folder, source, {})
    for index, caption in captions.items():
        log.append(
            CaptionRecord(
                episode=index,
                instruction="",
                caption=caption,
                outline=CaptionOutline(object="cup", actions=("lift",)),
                model="m",
                prompts="",
                frames={},
                usage=AnnotationUsage(),
            )
        )
    entries = {index: CaptionReview.of(captions[index], captions[index]) for index in accepted}
    CaptionReviews(fingerprint=source.fingerprint, entries=entries).write(folder / "reviews.json")
    return str(folder)


def test_the_verb_scores_what_was_written_against_what_was_reviewed(tmp_path, capsys):
    source = MemorySource([MemoryEpisode(columns={"action": np.zeros((2, 1))})] * 3, name="lab")
    candidates = write(tmp_path / "new", source, {0: made(actor="left"), 1: made(), 2: made()}, accepted=[])
    references = write(tmp_path / "old", source, {0: made(actor="right"), 1: made(), 2: made(actor="x")}, [0, 1])
    scores = write_rubric(candidates, references, output=str(tmp_path / "rubric.json"))
    found = json.loads((tmp_path / "rubric.json").read_text())
    assert found["by"] == "shared words"
    assert [row["dimension"] for row in found["scores"]] == KEYS
    actor = next(row for row in found["scores"] if row["dimension"] == "actor")
    assert (actor["score"], actor["episodes"]) == (0.5, 2)
    assert next(score for score in scores if score.dimension == "object").score == 1
    assert "Captions of lab, 2 episodes" in capsys.readouterr().out
    other = MemorySource([MemoryEpisode(columns={"action": np.ones((2, 1))})], name="other")
    with pytest.raises(DataError, match="references must be captions of lab, got those of other"):
        write_rubric(candidates, write(tmp_path / "other", other, {0: made()}, [0]))
