"""Several tasks with all their trials, with and without a log; the episodes themselves are `test_rollout`'s."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from corridor import Breaking, Corridor, Sprinter, Walker

from vla_kit.envs import EnvHere
from vla_kit.evaluation import EpisodeLog, EvaluationTask, ShiftedScenes, evaluate_tasks, evaluation_seeds


class Uphill(Corridor):
    """A step is worth half."""

    def step(self, action):
        return super().step(action / 2)


def stand(seed):
    return "stand"


def walk(seed):
    return "please walk"


CORRIDOR = EvaluationTask(
    name="toy/corridor",
    make_env=Corridor,
    make_expert=Sprinter,
    swapped=stand,
    shifts={"slope": ShiftedScenes(make_env=Uphill), "words": ShiftedScenes(make_env=Corridor, instruction=walk)},
)


def test_every_trial_of_a_task_is_run_and_counted():
    table, kept = evaluate_tasks(Walker(), [CORRIDOR], episodes=5, baseline_episodes=3, replan_every=4, record=1)
    (row,) = table.tasks
    assert (row.name, row.embodiment) == ("toy/corridor", "walker")
    assert (row.policy.successes, row.policy.episodes) == (5, 5)
    assert (row.swapped.successes, row.swapped.episodes) == (0, 5)
    assert (row.expert.successes, row.expert.episodes) == (3, 3)
    assert row.random.episodes == 3
    assert (row.shifts["slope"].successes, row.shifts["slope"].episodes) == (4, 5)  # 5 steps of a half are 2.5 of 8...
    assert row.shifts["words"].successes == 5
    assert [result.seed for result in kept] == list(evaluation_seeds(5))
    assert [result.pictures is not None for result in kept] == [True, False, False, False, False]
    assert table.seconds["evaluation"] > 0
    assert table.seconds["baselines"] > 0


def test_baselines_can_be_left_out_and_a_task_may_have_no_more_than_an_environment():
    table, _ = evaluate_tasks(
        Walker(), [EvaluationTask(name="bare", make_env=Corridor)], episodes=2, baseline_episodes=0
    )
    (row,) = table.tasks
    assert (row.expert, row.random, row.swapped, dict(row.shifts)) == (None, None, None, {})
    table, _ = evaluate_tasks(
        Walker(), [EvaluationTask(name="bare", make_env=Corridor)], episodes=2, baseline_episodes=2
    )
    assert table.tasks[0].expert is None
    assert table.tasks[0].random.episodes == 2


class Counting:
    """Makes corridors and counts the episodes that begin in them."""

    def __init__(self):
        self.made = []

    def __call__(self):
        self.made.append(Corridor())
        return self.made[-1]

    @property
    def begun(self):
        return [seed for env in self.made for seed in env.resets]


class Interrupted(Walker):
    """Stops the evaluation after some questions, as a killed process would."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def act(self, observations, *, generator):
        if len(self.batches) == self.after:
            raise KeyboardInterrupt
        return super().act(observations, generator=generator)


def test_what_a_log_holds_is_not_run_again(tmp_path):
    whole, expected = evaluate_tasks(Walker(), [CORRIDOR], episodes=6, baseline_episodes=2, replan_every=4, record=1)
    settings = {"episodes": 6, "baseline_episodes": 2, "replan_every": 4, "record": 1}
    with pytest.raises(KeyboardInterrupt):
        evaluate_tasks(Interrupted(4), [CORRIDOR], log=EpisodeLog(tmp_path, {"a": 1}), **settings)
    done = [result.seed for result in EpisodeLog(tmp_path, {"a": 1}).finished("toy/corridor", "policy").values()]
    assert done == [1_000_000, 1_000_001, 1_000_002, 1_000_003]
    policy = Walker()
    resumed, kept = evaluate_tasks(policy, [CORRIDOR], log=EpisodeLog(tmp_path, {"a": 1}), **settings)
    assert kept == expected
    assert resumed.tasks == whole.tasks
    assert policy.generators[:2] == [1_000_004, 1_000_004]  # begins with the first that is missing; it takes five steps
    assert [result.pictures is not None for result in kept] == [True, False, False, False, False, False]
    assert kept[0].pictures.shape == expected[0].pictures.shape
    nothing = Walker()
    again, _ = evaluate_tasks(nothing, [CORRIDOR], log=EpisodeLog(tmp_path, {"a": 1}), **settings)
    assert nothing.batches == []
    assert again.tasks == whole.tasks
    assert again.seconds == pytest.approx(resumed.seconds, abs=0.05)  # kept to a thousandth per episode


def test_more_episodes_may_be_asked_for_later(tmp_path):
    pool = Counting()
    task = EvaluationTask(name="toy/corridor", make_env=pool)
    log = EpisodeLog(tmp_path, {})
    evaluate_tasks(Walker(), [task], episodes=3, baseline_episodes=0, log=log, record=0)
    table, _ = evaluate_tasks(Walker(), [task], episodes=5, baseline_episodes=0, log=log, record=0)
    assert pool.begun == list(evaluation_seeds(5))
    assert table.tasks[0].policy.episodes == 5


def test_errors_are_counted_beside_the_rate_and_run_again_at_the_next_start(tmp_path):
    seeds = evaluation_seeds(3)
    faults = {seeds[1]: ("raise", 3)}  # twice in the first start, once in the second
    (tmp_path / "faults").mkdir()

    def make():
        return Breaking(tmp_path / "faults", faults)

    task = EvaluationTask(name="toy/corridor", make_env=make)
    settings = {"episodes": 3, "baseline_episodes": 0, "record": 0}
    table, kept = evaluate_tasks(Walker(), [task], log=EpisodeLog(tmp_path / "log", {}), **settings)
    assert (table.tasks[0].policy.successes, table.tasks[0].policy.episodes, table.tasks[0].errors) == (2, 2, 1)
    assert "the physics blew up" in kept[1].error
    table, kept = evaluate_tasks(
        Walker(), [task], log=EpisodeLog(tmp_path / "log", {}), workers=[EnvHere()], **settings
    )
    assert (table.tasks[0].policy.successes, table.tasks[0].policy.episodes, table.tasks[0].errors) == (3, 3, 0)
