"""Sentences and grippers: who is told to grasp, and how often."""

import numpy as np
import pytest

from vla_kit.data.cleaning import ColumnRoles, ContradictedCount, ContradictedGripper, ExaminedEpisode, find_faults
from vla_kit.data.cleaning.rules._grips import measure_grips, tells_to_grasp, told_count
from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.data.readers.open import open_source
from vla_kit.data.source import ColumnInfo
from vla_kit.errors import SettingError

ROLES = ColumnRoles(action=("action",))


class Named(MemorySource):
    @property
    def columns(self):
        return {"action": ColumnInfo(size=3, names=("x", "left_gripper", "right_gripper"))}


def track(*places, held=5):
    return np.repeat(np.array(places, dtype=np.float64), held)


def episode(sentence, left=(1,), right=(1,)):
    one, other = track(*left), track(*right)
    length = max(len(one), len(other))
    columns = [
        np.linspace(0, 1, length),
        *(np.pad(each, (0, length - len(each)), mode="edge") for each in (one, other)),
    ]
    return MemoryEpisode(columns={"action": np.stack(columns, axis=1)}, instruction=sentence)


def judge(rule, *episodes, kind=Named):
    return find_faults(kind(list(episodes)), [rule], roles=ROLES).rules[0]


@pytest.mark.parametrize(
    ("sentence", "grasp"),
    [
        ("Pick up the cup", True),
        ("picking the cup", True),
        ("lift it", True),
        ("grabbing and carried", True),
        ("the carpet", False),
        ("push the block left", False),
        ("close the toothpick box", False),
        ("open the drawer", False),
    ],
)
def test_which_sentences_tell_to_grasp(sentence, grasp):
    assert tells_to_grasp(sentence) is grasp


@pytest.mark.parametrize(
    ("sentence", "count"),
    [
        ("pick up both cups", 2),
        ("Put the 3 blocks away", 3),
        ("move all the four cans", 4),
        ("place two forks on three plates", 2),
        ("pick the cup", None),
        ("push the two blocks", None),
        ("move 5 cm to the left", None),
        ("lift 2 times", None),
        ("take 3 steps", None),
        ("put 1 cup away", None),
    ],
)
def test_which_number_of_objects_a_sentence_tells(sentence, count):
    assert told_count(sentence) == count


def test_changes_are_counted_between_thirds_of_the_range():
    source = Named([episode("pick", left=(1, 0, 0.4, 0.1, 1, 0.6, 0.9, 0), right=(0.5,))])
    measured = measure_grips(ExaminedEpisode(source, 0, roles=ROLES), None)
    np.testing.assert_array_equal(measured.numbers, [[0, 0.5], [1, 0.5], [3, 0]])


def test_an_episode_that_is_told_to_grasp_and_does_not_is_dropped():
    found = judge(
        ContradictedGripper(),
        episode("pick the cup", left=(1, 0)),
        episode("pick the cup", right=(1, 0.2)),
        episode("pick the cup", left=(1, 0.9)),
        episode("push the cup"),
        episode("pick the cup", left=(0.5, 0.25)),
    )
    assert found.judgement.values == pytest.approx((1.0, 1.0, 0.1, None, 0.25))
    assert found.dropped == (2,)
    assert found.judgement.note == "4 episodes are told to grasp."


def test_an_episode_that_grasps_fewer_times_than_it_is_told_is_dropped():
    found = judge(
        ContradictedCount(),
        episode("pick up both cups", left=(1, 0, 1, 0)),  # grasp, release, grasp
        episode("pick up both cups", left=(1, 0, 1)),
        episode("pick up both cups", left=(1, 0, 1), right=(1, 0, 1)),
        episode("pick up the cup", left=(1, 0)),
        episode("put three cups away", left=(1, 0, 1, 0, 1, 0, 1)),
        episode("pick up two cups", left=(1, 0.95, 1, 0.95)),  # trembles
    )
    assert found.judgement.values == pytest.approx((1.0, 2 / 3, 4 / 3, None, 6 / 5, 0.0))
    assert found.dropped == (5, 1)
    assert found.judgement.note == "5 episodes are told a number."


@pytest.mark.parametrize("rule", [ContradictedGripper, ContradictedCount])
def test_without_names_the_channels_are_told(rule):
    episodes = [episode("pick up two cups", left=(1, 0, 1, 0)), episode("pick up two cups")]
    unknown = judge(rule(), *episodes, kind=MemorySource)
    assert unknown.judgement.values == (None, None)
    assert unknown.judgement.note.startswith("No channel is named as a gripper.")
    assert judge(rule(channels=[1]), *episodes, kind=MemorySource).judgement.values == (1.0, 0.0)
    with pytest.raises(SettingError, match=r"channels must lie in \[0, 3\), got 8"):
        judge(rule(channels=[8]), *episodes, kind=MemorySource)


def test_real_bridge_grasps_where_it_is_told_to(shared_data):
    pytest.importorskip("tfrecord", reason="tfrecord comes with vla-kit[rlds]")
    source = open_source(shared_data / "bridge_rlds_debug")
    found = find_faults(source, [ContradictedGripper(channels=[6])], roles=ROLES).rules[0]
    sentences = [source.instruction_at(index, 0) for index in range(len(source.lengths))]
    told = [tells_to_grasp(sentence) for sentence in sentences]
    assert [value is not None for value in found.judgement.values] == told
