"""The decision file: what is written is read, edits survive, and it fits one data set only."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vla_kit.data.cleaning import Decision, Decisions, MinimumFrames, StaticActions, find_faults, find_roles
from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.errors import DataError


class Reader:
    """What `check` needs of a reader."""

    def __init__(self, source: MemorySource) -> None:
        self.source = source


@pytest.fixture
def source() -> MemorySource:
    moving, still = np.linspace(0, 1, 20)[:, None], np.zeros((20, 1))
    arrays = [moving, still, moving[:5], still[:5]]
    return MemorySource([MemoryEpisode(columns={"action": values}) for values in arrays], name="Tür öffnen")


def clean(source: MemorySource, *, minimum: int = 10) -> Decisions:
    return find_faults(
        source, [MinimumFrames(threshold=minimum), StaticActions()], roles=find_roles(source)
    ).decisions()


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_what_is_written_is_read_and_stable(source: MemorySource, tmp_path: Path):
    decisions = clean(source)
    assert decisions.dropped == {1, 2, 3}
    path = tmp_path / "made" / "decisions.json"
    decisions.write(path)
    first = path.read_bytes()
    read = Decisions.read(path)
    assert read.dropped == decisions.dropped
    assert read.rules == decisions.rules
    assert set(read.entries) == set(decisions.entries)
    assert read.rules[0]["init_args"] == {"threshold": 10}
    read.write(path)
    assert path.read_bytes() == first
    lines = path.read_text(encoding="utf-8").splitlines()
    assert '    {"episode": 2, "rule": "minimum_frames", "value": 5.0, "threshold": 10, "keep": false},' in lines
    assert any("Tür öffnen" in line for line in lines), "people read it"


def test_keep_true_brings_an_episode_back_and_cleaning_again_respects_it(source: MemorySource, tmp_path: Path):
    path = tmp_path / "decisions.json"
    clean(source).write(path)
    written = '"rule": "minimum_frames", "value": 5.0, "threshold": 10, "keep": false'
    edit(path, written, '"rule": "minimum_frames", "keep": true')
    assert Decisions.read(path).dropped == {1, 3}, "episode 3 does not move either"
    again = clean(source).with_edits_of(Decisions.read(path))
    assert again.dropped == {1, 3}
    assert {(entry.rule, entry.episode): entry.value for entry in again.entries}["minimum_frames", 2] == 5.0


def test_a_deleted_line_stays_deleted_and_a_looser_threshold_is_no_deletion(source: MemorySource, tmp_path: Path):
    path = tmp_path / "decisions.json"
    clean(source).write(path)
    edit(path, '    {"episode": 1, "rule": "static_actions", "value": 0.0, "threshold": 0.001, "keep": false},\n', "")
    edited = Decisions.read(path)
    assert edited.dropped == {2, 3}
    loose = clean(source, minimum=5).with_edits_of(edited)
    assert loose.dropped == {3}
    loose.write(path)
    strict = clean(source).with_edits_of(Decisions.read(path))
    assert strict.dropped == {2, 3}
    assert all(entry.keep for entry in strict.entries if entry.episode == 1)


def test_an_entry_of_a_person_stays_and_can_be_taken_back(source: MemorySource, tmp_path: Path):
    path = tmp_path / "decisions.json"
    clean(source).write(path)
    edit(path, '"entries": [\n', '"entries": [\n    {"episode": 0, "rule": "spilled the coffee"},\n')
    again = clean(source).with_edits_of(Decisions.read(path))
    assert again.dropped == {0, 1, 2, 3}
    again.write(path)
    third = clean(source).with_edits_of(Decisions.read(path))
    assert third.dropped == {0, 1, 2, 3}
    without = replace(third, entries=tuple(entry for entry in third.entries if entry.episode))
    assert clean(source).with_edits_of(without).dropped == {1, 2, 3}


def test_decisions_of_another_data_set_are_refused(source: MemorySource):
    decisions = clean(source)
    decisions.check(source)
    decisions.check(Reader(source))
    other = MemorySource([MemoryEpisode(columns={"action": np.ones((20, 1))})], name=source.name)
    with pytest.raises(DataError, match=r"decisions must be of memory:Tür öffnen .* Run `vla-kit data clean`"):
        decisions.check(Reader(other))
    with pytest.raises(DataError, match="must be of one data set"):
        clean(other).with_edits_of(decisions)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"episode": 1,', '"episode": 9,', r"episode must be a number in \[0, 4\), got 9"),
        ('"episode": 1,', '"episode": "one",', "got 'one'"),
        ('"keep": false', '"keep": "no"', "keep must be true or false, got 'no'"),
        ('"keep": false', '"Keep": false', "must have no key 'Keep'"),
        ('"rule": "static_actions", ', "", 'must have "episode" and "rule"'),
        ('"entries": [', '"entries": {', "must be a decision file"),
        ('  "fingerprint"', '  "footprint"', "must hold every key .*fingerprint"),
        ("cleaning decisions 1", "cleaning decisions 9", 'must begin with "format"'),
    ],
)
def test_broken_edits_are_named(source: MemorySource, tmp_path: Path, old: str, new: str, message: str):
    path = tmp_path / "decisions.json"
    clean(source).write(path)
    edit(path, old, new)
    with pytest.raises(DataError, match=message):
        Decisions.read(path)


def test_places_that_cannot_be_written_are_named(source: MemorySource, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="path must be a file that can be written"):
        clean(source).write(tmp_path / "file" / "decisions.json")


def test_values_that_json_does_not_know_become_null(tmp_path: Path):
    entry = Decision(episode=0, rule="mine", value=float("inf"), threshold=1.0)
    decisions = Decisions(data_set="a", fingerprint="b", location="c", num_episodes=1, entries=(entry,))
    decisions.write(tmp_path / "decisions.json")
    assert json.loads((tmp_path / "decisions.json").read_text())["entries"][0]["value"] is None
