"""Histories of frames and scores of navigation, through rollout, log, table and report."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from corridor import Corridor, Hall, Sprinter, Walker

from vla_kit.embodiment import History
from vla_kit.envs import EnvHere
from vla_kit.evaluation import (
    EpisodeLog,
    EvaluationTask,
    evaluate,
    evaluate_expert,
    evaluate_random,
    evaluate_tasks,
    evaluation_seeds,
)
from vla_kit.evaluation.report import write_report

FIVE_STEPS = 1_000_004
HISTORY = History(frames=3, rate_hz=5)  # every second step of the corridor's 10 Hz
HALL = EvaluationTask(name="toy/corridor", make_env=Hall, make_expert=Sprinter)


class Watching(Walker):
    """Keeps what it is shown at each question."""

    def __init__(self):
        super().__init__()
        self.shown = []

    def act(self, observations, *, generator):
        for one in observations:
            self.shown.append((np.asarray(one.views["cam"])[..., 0, 0].tolist(), one.frame_rate_hz))
        return super().act(observations, generator=generator)


def test_a_policy_sees_the_history_that_it_was_trained_with():
    """The picture shows ten times the steps left: 5 at the start, one less after each."""
    watching, made = Watching(), []

    def make():
        made.append(Corridor())
        return made[-1]

    evaluate(watching, make, [FIVE_STEPS], replan_every=3, history=HISTORY)
    first, second = ([row[0] for row in frames] for frames, _ in watching.shown)
    assert first == [50]
    assert second == [40, 20]  # steps 1 and 3; step -1 is not there
    assert [rate for _, rate in watching.shown] == [5, 5]
    assert made[0].looks == 5  # every step but the last, which nobody acts on


def test_histories_of_neighbours_and_of_episodes_do_not_mix():
    alone, together = Watching(), Watching()
    seeds = evaluation_seeds(6)
    first = evaluate(alone, Corridor, seeds, replan_every=2, history=HISTORY)
    second = evaluate(together, Corridor, seeds, replan_every=2, history=HISTORY, workers=[EnvHere() for _ in range(3)])
    assert first == second
    assert sorted(map(str, alone.shown)) == sorted(map(str, together.shown))


def test_without_a_history_nothing_changes():
    watching = Watching()
    evaluate(watching, Corridor, [FIVE_STEPS], replan_every=3)
    assert [(np.shape(picture), rate) for picture, rate in watching.shown] == [((4,), None)] * 2


def test_episodes_are_measured_where_the_environment_navigates():
    (found,) = evaluate(Walker(), Hall, [FIVE_STEPS], replan_every=4)
    measured = found.navigation
    assert (measured.length_m, measured.shortest_m, measured.distance_m) == (5.0, 5.0, 0.0)
    assert measured.success == found.success is True
    assert measured.spl == 1.0
    (expert,) = evaluate_expert(Hall, [FIVE_STEPS], make_expert=Sprinter)
    assert expert.navigation == measured
    (random,) = evaluate_random(Hall, [FIVE_STEPS])
    assert not random.navigation.success
    assert random.navigation.nearest_m <= random.navigation.distance_m
    assert evaluate(Walker(), Corridor, [FIVE_STEPS], replan_every=4)[0].navigation is None


def test_scores_reach_the_table_and_survive_the_log(tmp_path):
    settings = {"checkpoint": "abc"}
    arguments = {"episodes": 5, "baseline_episodes": 3, "replan_every": 4, "record": 0}
    table, _ = evaluate_tasks(Walker(), [HALL], log=EpisodeLog(tmp_path, settings), **arguments)
    (row,) = table.tasks
    assert set(row.navigation) == {"policy", "expert", "random"}
    assert row.navigation["policy"]["spl"] == row.navigation["policy"]["success"] == 1.0
    assert row.navigation["policy"]["trajectory_length_m"] == pytest.approx(3.0)
    assert row.navigation["policy"]["episodes"] == 5
    assert row.navigation["expert"]["episodes"] == 3
    again, _ = evaluate_tasks(Walker(), [HALL], log=EpisodeLog(tmp_path, settings), **arguments)
    assert again.tasks[0].navigation == row.navigation
    assert table.summary()["tasks"][0]["navigation"]["policy"]["spl"] == 1.0
    write_report(tmp_path / "report.html", table, title="Halls")
    page = (tmp_path / "report.html").read_text()
    assert "<h2>Navigation</h2>" in page
    assert "<td>toy/corridor</td><td>policy</td><td>100%</td><td>100%</td><td>1.000</td>" in page


def test_tables_without_navigation_do_not_mention_it(tmp_path):
    bare = EvaluationTask(name="toy/corridor", make_env=Corridor)
    table, _ = evaluate_tasks(Walker(), [bare], episodes=2, baseline_episodes=0, replan_every=4)
    assert table.tasks[0].navigation == {}
    assert "navigation" not in table.summary()["tasks"][0]
    write_report(tmp_path / "report.html", table, title="Corridors")
    assert "Navigation" not in (tmp_path / "report.html").read_text()
