"""Which episodes are kept, against an independent reference."""

import itertools

import numpy as np
import pytest

from vla_kit.data.captions.motion_selection import MotionSelection, medoids, warped_distances
from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.errors import SettingError


def warp_slowly(first, second):
    """The textbook recursion."""
    rows, columns = len(first), len(second)
    table = np.full((rows + 1, columns + 1), np.inf)
    table[0, 0] = 0
    for i, j in itertools.product(range(rows), range(columns)):
        cost = np.abs(first[i] - second[j]).sum()
        table[i + 1, j + 1] = cost + min(table[i, j], table[i, j + 1], table[i + 1, j])
    return table[-1, -1]


def test_distances_are_those_of_the_textbook():
    motions = np.random.default_rng(0).normal(size=(7, 9, 3))
    expected = np.array([[warp_slowly(one, other) for other in motions] for one in motions])
    np.testing.assert_allclose(warped_distances(motions), expected, rtol=1e-12)


def test_more_pairs_than_are_computed_at_a_time(monkeypatch):
    motions = np.random.default_rng(1).normal(size=(9, 4, 2))
    whole = warped_distances(motions)
    monkeypatch.setattr("vla_kit.data.captions.motion_selection._PAIRS", 5)
    np.testing.assert_array_equal(warped_distances(motions), whole)


def test_medoids_are_the_best_choice_of_a_clear_case():
    rng = np.random.default_rng(2)
    places = np.concatenate([center + rng.normal(scale=0.1, size=5) for center in (0.0, 10.0, 20.0)])
    distances = np.abs(places[:, None] - places)
    best = min(itertools.combinations(range(15), 3), key=lambda chosen: distances[list(chosen)].min(axis=0).sum())
    assert medoids(distances, 3) == list(best)


def test_equal_members_do_not_empty_a_cluster():
    assert medoids(np.zeros((4, 4)), 3) == [0, 1, 2]
    assert medoids(np.zeros((2, 2)), 2) == [0, 1]


def source_of(kinds, *, channel=0):
    """One episode per entry: it rises to that height, at its own speed, in task 0 or 1."""
    episodes = []
    for place, height in enumerate(kinds):
        length = 10 + 3 * (place % 4)
        actions = np.zeros((length, 2))
        actions[:, channel] = height * np.clip(np.linspace(-0.5, 1.5, length), 0, 1)
        episodes.append(MemoryEpisode(columns={"action": actions}, instruction=f"task {place % 2}"))
    return MemorySource(episodes)


def test_every_task_keeps_its_share_and_one_of_each_kind_of_motion():
    kinds = [1, 5, 1, 5, 9, 7, 9, 7, 1, 5, 9, 7]  # task 0 does 1 and 9, task 1 does 5 and 7
    source = source_of(kinds)
    chosen = MotionSelection(share=1 / 3).choose(source, range(12), columns=["action"])
    assert sorted(kinds[index] for index in chosen) == [1, 5, 7, 9]
    assert chosen == MotionSelection(share=1 / 3).choose(source, range(11, -1, -1), columns=["action"])


def test_a_task_keeps_at_least_one_and_all_are_kept_by_a_share_of_one():
    source = source_of([1, 2, 3, 4])
    assert len(MotionSelection(share=0.01).choose(source, range(4), columns=["action"])) == 2
    assert MotionSelection().choose(source, [3, 0], columns=["action"]) == [0, 3]
    assert MotionSelection(share=0.9).choose(source, range(4), columns=["action"]) == [0, 1, 2, 3]


def test_the_gripper_weighs_more():
    arm = [0.0, 0, 8, 8]
    grip = [0.0, 1, 0, 1]
    episodes = [
        MemoryEpisode(columns={"action": np.outer(np.linspace(0, 1, 9), [a, g])}, instruction="push")
        for a, g in zip(arm, grip, strict=True)
    ]
    source = MemorySource(episodes)

    def kinds(**settings):
        chosen = MotionSelection(share=0.5, **settings).choose(source, range(4), columns=["action"])
        return {arm[index] for index in chosen}, {grip[index] for index in chosen}

    assert kinds()[0] == {0, 8}
    assert kinds(gripper=[1])[1] == {0, 1}


@pytest.mark.parametrize(("setting", "value"), [("share", 0), ("share", 1.1), ("steps", 1), ("gripper_weight", -1)])
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(SettingError, match=f"{setting} must "):
        MotionSelection(**{setting: value})
