"""Navigation measures: hand-computed episodes, brute-force time warping, a real log of 1,839 episodes, bad input."""

import json
import math
from functools import cache

import numpy as np
import pytest
import torch

from vla_kit.errors import DataError, SettingError, ShapeError
from vla_kit.metrics import NavigationEpisode, dynamic_time_warping, mean_scores, ndtw, path_length
from vla_kit.metrics.navigation_scores import NavigationScores

LOG = "vlnce_eval_logs/cont-cwp-vlnbert-ori_{}.json"
TIME_LIMIT = 20  # decisions of the logged evaluation; whoever needed them all had not stopped


def episode(**changes):
    usual = {"distance_m": 1.0, "nearest_m": 0.5, "length_m": 12.0, "shortest_m": 9.0, "stopped": True, "ndtw": 0.8}
    return NavigationEpisode(**(usual | changes))


def brute_force(cost):
    """Least cost over all alignments, by recursion from the end."""

    @cache
    def least(i, j):
        if i == j == 0:
            return cost[0][0]
        ways = [least(a, b) for a, b in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if a >= 0 and b >= 0]
        return cost[i][j] + min(ways)

    return least(len(cost) - 1, len(cost[0]) - 1)


@pytest.fixture(scope="module")
def logged(shared_data):
    """The real log as episodes. It holds no shortest ways: those of successes follow from their own SPL."""
    rows = json.loads((shared_data / LOG.format("ep")).read_text()).values()
    return [
        NavigationEpisode(
            distance_m=row["distance_to_goal"],
            nearest_m=min(row["distance_to_goal"], 0.0 if row["oracle_success"] else math.inf),
            length_m=row["path_length"],
            shortest_m=row["spl"] * row["path_length"] if row["success"] else row["path_length"],
            stopped=row["steps_taken"] < TIME_LIMIT,
            ndtw=row["ndtw"],
        )
        for row in rows
    ]


def test_the_real_log(logged, shared_data):
    published = json.loads((shared_data / LOG.format("agg")).read_text())
    scores = NavigationScores()
    scores.update(logged)
    found = {name: value.item() for name, value in scores.compute().items()}
    assert found["episodes"] == 1839
    assert found["success"] == published["success"] == 806 / 1839
    assert abs(found["spl"] - published["spl"]) <= 2e-4
    assert found["oracle_success"] == pytest.approx(published["oracle_success"], abs=1e-12)
    assert found["navigation_error_m"] == pytest.approx(published["distance_to_goal"], abs=1e-9)
    assert found["trajectory_length_m"] == pytest.approx(published["path_length"], abs=1e-9)
    assert found["ndtw"] == pytest.approx(published["ndtw"], abs=1e-12)


def test_distance_alone_does_not_give_the_logged_success(logged):
    near = [one for one in logged if one.distance_m < 3.0]
    assert len(near) - sum(one.success for one in logged) == 22


def test_an_episode_by_hand():
    path = np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 4.0]])
    found = NavigationEpisode.of(
        path,
        goal_distances=np.array([5.0, 4.0, 1.0]),
        shortest_m=5.0,
        stopped=True,
        reference=np.array([[0.0, 0.0], [3.0, 4.0]]),
    )
    assert (found.length_m, found.distance_m, found.nearest_m) == (7.0, 1.0, 1.0)
    assert found.spl == 5 / 7
    assert found.ndtw == pytest.approx(math.exp(-3 / (2 * 3.0)))  # (3, 0) is 3 m from the start and 4 m from the end
    assert found.sdtw == found.ndtw


def test_success_needs_a_stop_and_oracle_success_does_not():
    late = episode(stopped=False)
    assert (late.success, late.oracle_success, late.spl, late.sdtw) == (False, True, 0.0, 0.0)
    passed = episode(distance_m=3.0, nearest_m=2.999)
    assert (passed.success, passed.oracle_success) == (False, True)  # exactly 3 m is not within 3 m
    assert episode(distance_m=2.999).success


def test_spl_of_short_and_of_no_ways():
    assert episode(length_m=4.0).spl == 1.0  # the radius of success is saved
    assert episode(length_m=0.0, shortest_m=0.0).spl == 1.0
    assert episode(length_m=1.0, shortest_m=0.0).spl == 0.0


def test_time_warping_equals_brute_force():
    rng = np.random.default_rng(0)
    for steps, points in ((1, 1), (1, 5), (4, 1), (5, 7), (9, 3), (8, 8)):
        path, reference = rng.normal(size=(steps, 2)), rng.normal(size=(points, 2))
        cost = [[math.dist(a, b) for b in reference] for a in path]
        assert dynamic_time_warping(np.array(cost)) == pytest.approx(brute_force(cost), rel=1e-12)
        expected = math.exp(-brute_force(cost) / (points * 0.7))
        assert ndtw(path, reference, success_m=0.7) == pytest.approx(expected, rel=1e-12)


def test_time_warping_minds_the_order_of_places():
    way = np.array([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]])
    aside = way + np.array([0.0, 1.0])
    assert ndtw(np.repeat(aside, 3, axis=0), way) == ndtw(aside, way)  # standing still adds nothing
    assert ndtw(way[::-1], way) < ndtw(aside, way) < 1.0


def test_two_processes_give_what_one_gives():
    episodes = [episode(distance_m=1.0 + i, length_m=9.0 + i, ndtw=None if i % 2 else 0.1 * i) for i in range(7)]
    whole, parts = NavigationScores(), [NavigationScores(), NavigationScores()]
    whole.update(episodes)
    parts[0].update(episodes[:3])
    parts[1].update(episodes[3:])
    for name, reduce in parts[0]._reductions.items():  # as torchmetrics does between processes
        together = reduce(torch.stack([getattr(one, name) for one in parts]))
        setattr(parts[0], name, together)
    expected = whole.compute()
    for name, value in parts[0].compute().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=0)
        assert mean_scores(episodes)[name] == pytest.approx(value.item(), rel=1e-12)
    assert expected["episodes"] == 7
    assert expected["ndtw"].item() == pytest.approx((0.0 + 0.2 + 0.4 + 0.6) / 4)


def test_scores_without_episodes_and_after_a_reset():
    scores = NavigationScores()
    assert scores.compute()["spl"].isnan()
    assert scores.compute()["episodes"] == 0
    scores.update([episode(ndtw=None)])
    assert scores.compute()["ndtw"].isnan()
    assert scores.compute()["spl"].item() == 0.75
    scores.reset()
    assert scores.compute()["episodes"] == 0


def test_a_bfloat16_model_does_not_round_the_sums():
    scores = NavigationScores().to(torch.bfloat16)
    scores.update([episode(distance_m=1.001, nearest_m=1.0)] * 301)
    assert scores.compute()["navigation_error_m"].item() == pytest.approx(1.001, abs=1e-9)
    assert scores.compute()["episodes"] == 301


def test_bad_input_is_named(shape_hook_off):
    with pytest.raises(DataError, match=r"shortest_m must be finite, got inf\. The goal cannot be reached"):
        episode(shortest_m=math.inf)
    with pytest.raises(DataError, match="distance_m must be finite, got nan"):
        episode(distance_m=math.nan)
    with pytest.raises(SettingError, match="length_m must be at least 0, got -1"):
        episode(length_m=-1.0)
    with pytest.raises(SettingError, match=r"nearest_m must be at most distance_m 1\.0, got 2\.0"):
        episode(nearest_m=2.0)
    with pytest.raises(SettingError, match=r"ndtw must lie in \[0, 1\], got 1\.5"):
        episode(ndtw=1.5)
    with pytest.raises(SettingError, match="success_m must be above 0"):
        episode(success_m=0.0)
    with pytest.raises(DataError, match="path must hold at least one place, got none"):
        path_length(np.zeros((0, 3)))
    with pytest.raises(DataError, match=r"path must be finite, got \[nan, 0.0\]"):
        path_length(np.array([[0.0, 0.0], [math.nan, 0.0]]))
    with pytest.raises(ShapeError, match=r"path must have the shape \(step, size\), got \(3,\)"):
        path_length(np.zeros(3))
    with pytest.raises(DataError, match="reference must hold at least one place"):
        ndtw(np.zeros((1, 2)), np.zeros((0, 2)))
    with pytest.raises(ShapeError, match="reference must have the axes of path, got 3 and 2"):
        ndtw(np.zeros((1, 2)), np.zeros((1, 3)))
    with pytest.raises(DataError, match=r"cost must hold both sequences, got the shape \(0, 4\)"):
        dynamic_time_warping(np.zeros((0, 4)))
    with pytest.raises(ShapeError, match=r"goal_distances must have the shape \(2,\)"):
        NavigationEpisode.of(np.zeros((2, 2)), goal_distances=np.zeros(3), shortest_m=1.0, stopped=True)


def test_no_episode_has_no_mean():
    with pytest.raises(DataError, match="episodes must hold at least one episode, got none"):
        mean_scores([])


def test_a_single_place_has_no_length():
    assert path_length(np.array([[4.0, 4.0]])) == 0.0
