"""Captions reach training as instructions, and only those that may."""

import json
import pickle

import numpy as np
import pytest
from caption_script import caption_of, outline_of
from jsonargparse import ArgumentParser

from vla_kit.data import demonstration_set
from vla_kit.data.captions.caption_log import CaptionLog
from vla_kit.data.captions.caption_mix import CaptionMix, MixedInstructions
from vla_kit.data.captions.caption_record import CaptionRecord
from vla_kit.data.captions.caption_reviews import CaptionReview, CaptionReviews
from vla_kit.data.captions.fine_caption import FineCaption
from vla_kit.data.captions.outline import CaptionOutline
from vla_kit.data.captions.usage import AnnotationUsage
from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.data.set_blocks import check_set_blocks
from vla_kit.data.windows import ChunkDataset
from vla_kit.errors import DataError, SettingError

FINE = "Step 1: Reach to the pear. Step 2: Do it."


@pytest.fixture
def source(monkeypatch):
    episode = MemoryEpisode(columns={"action": np.zeros((300, 2))}, instruction="pick the pear")
    made = MemorySource([episode] * 3, rate_hz=10)
    monkeypatch.setattr(demonstration_set, "open_source", lambda root, *, name, options: made)
    return made


@pytest.fixture
def log(source, tmp_path):
    """Episodes 0 and 1 are captioned, 0 is accepted."""
    made = CaptionLog.begin(tmp_path / "captions", source, {"rate_hz": 10.0})
    for index in (0, 1):
        made.append(
            CaptionRecord(
                episode=index,
                instruction="pick the pear",
                caption=FineCaption.parse(caption_of("the pear")),
                outline=CaptionOutline.parse(json.loads(outline_of("the pear"))),
                model="qwen",
                prompts="",
                frames={},
                usage=AnnotationUsage(),
            )
        )
    decide(made, {0: made.records[0].caption})
    return made


def decide(log, edited):
    entries = {index: CaptionReview.of(log.records[index].caption, caption) for index, caption in edited.items()}
    CaptionReviews(fingerprint=log.header["fingerprint"], entries=entries).write(log.folder / "reviews.json")


def told(**settings):
    """What is told per episode -> share of its frames."""
    reader = DemonstrationSet(root="data/lab", embodiment="arm", captions=CaptionMix(**settings)).open()
    dataset = ChunkDataset(reader, horizon=2)
    said = {}
    for item in range(len(dataset)):
        sample = dataset[item]
        said.setdefault(sample.episode, []).append(sample.instruction)
    return {episode: {text: texts.count(text) / 300 for text in set(texts)} for episode, texts in said.items()}


def test_a_third_of_the_frames_of_a_reviewed_episode_are_told_the_caption(log):
    found = told(root=str(log.folder))
    assert found[1] == found[2] == {"pick the pear": 1.0}
    assert set(found[0]) == {FINE, "pick the pear"}
    assert found[0][FINE] == pytest.approx(1 / 3, abs=0.06)
    assert told(root=str(log.folder)) == found


@pytest.mark.parametrize(("fine", "raw", "share"), [(1, 0, 1.0), (0, 1, 0.0), (3, 3, 0.5)])
def test_the_parts_are_a_setting(log, fine, raw, share):
    found = told(root=str(log.folder), fine=fine, raw=raw)
    assert found[0].get(FINE, 0.0) == pytest.approx(share, abs=0.06 if 0 < share < 1 else 0.0)


def test_captions_that_nobody_reviewed_are_used_where_that_is_said_and_rejected_ones_never(log):
    found = told(root=str(log.folder), reviewed=False, raw=0)
    assert [list(found[episode]) for episode in (0, 1, 2)] == [[FINE], [FINE], ["pick the pear"]]
    decide(log, {1: None})
    found = told(root=str(log.folder), reviewed=False, raw=0)
    assert [list(found[episode]) for episode in (0, 1)] == [[FINE], ["pick the pear"]]


def test_a_corrected_caption_is_used_as_it_was_corrected(log):
    other = caption_of("the red pear")
    decide(log, {0: FineCaption.parse({**other, "steps": other["steps"][:1]})})
    assert list(told(root=str(log.folder), raw=0)[0]) == ["Step 1: Reach to the red pear."]


def test_the_choice_is_the_same_in_every_process():
    mixed = MixedInstructions({7: FINE}, share=0.5)
    chosen = [mixed.choose(7, frame, "pick") for frame in range(8)]
    assert [pickle.loads(pickle.dumps(mixed)).choose(7, frame, "pick") for frame in range(8)] == chosen
    assert [text == FINE for text in chosen] == [
        False,
        False,
        True,
        True,
        False,
        False,
        True,
        True,
    ]  # CRC-32 of "7:0" to "7:7" below 2^31


def test_captions_that_cannot_be_used_are_refused(log, source):
    decide(log, {0: None})
    with pytest.raises(DataError, match=r"must hold a caption that may be used, got none of 2\. Run .*reviewed: false"):
        told(root=str(log.folder))
    with pytest.raises(DataError, match="folder must hold captions, got no/folder"):
        CaptionMix(root="no/folder").open(source)
    other = MemorySource([MemoryEpisode(columns={"action": np.ones((3, 2))})])
    with pytest.raises(DataError, match="captions must be of memory:memory"):
        CaptionMix(root=str(log.folder)).open(other)
    for fine, raw in ((-1, 2), (1, -2), (0, 0), (float("nan"), 1), (float("inf"), 1)):
        with pytest.raises(SettingError, match="fine and raw must be at least 0"):
            CaptionMix(root="captions", fine=fine, raw=raw)


def test_a_block_of_yaml_holds_captions_and_its_slips_are_named(tmp_path):
    parser = ArgumentParser()
    parser.add_argument("--set", type=DemonstrationSet)
    block = {"root": "data/lab", "embodiment": "arm", "captions": {"root": "captions/lab", "raw": 3}}
    made = parser.instantiate_classes(parser.parse_args([f"--set={json.dumps(block)}"])).set
    assert made.captions == CaptionMix(root="captions/lab", fine=1, raw=3)
    path = tmp_path / "lab.yaml"
    path.write_text(json.dumps({"data": {"init_args": {"sets": [{**block, "captions": {"root": "x", "fin": 1}}]}}}))
    with pytest.raises(SettingError, match=r"sets\[0\]\.captions must have known keys, got 'fin'. Did you mean 'fine'"):
        check_set_blocks(path)
