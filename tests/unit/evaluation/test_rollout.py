import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # workers get the path

from corridor import Breaking, Corridor, Forgetful, Sprinter, Walker

from vla_kit.envs import EnvHere, env_workers
from vla_kit.errors import SettingError, ShapeError
from vla_kit.evaluation import SuccessCount, evaluate, evaluate_expert, evaluate_random, evaluation_seeds


class Pool:
    """Makes environments of this process and remembers them."""

    def __init__(self, kind=Corridor):
        self.kind, self.made = kind, []

    def __call__(self):
        self.made.append(self.kind())
        return self.made[-1]


def several(count):
    return [EnvHere() for _ in range(count)]


def test_results_keep_the_order_of_the_seeds_whatever_the_number_of_environments():
    seeds = evaluation_seeds(13)
    tables = []
    for count in (0, 1, 4, 50):
        pool = Pool()
        results = evaluate(Walker(), pool, seeds, replan_every=2, workers=several(count))
        tables.append(results)
        assert [result.seed for result in results] == list(seeds)
        assert len(pool.made) == min(max(count, 1), 13)
    assert tables[0] == tables[1] == tables[2] == tables[3]
    assert [result.steps for result in tables[0]] == [seed % 5 + 1 for seed in seeds]
    assert all(result.success and result.error is None for result in tables[0])
    assert tables[0][1].instruction == "walk 2"


def test_each_half_shares_a_batch():
    walker = Walker()
    evaluate(walker, Pool(), evaluation_seeds(5), replan_every=4, workers=several(5))
    assert walker.batches == [3, 2, 1]  # the halves take turns; one episode of five needs a fifth step
    assert walker.generators[:5] == list(evaluation_seeds(5))


def test_renders_only_where_the_policy_looks():
    pool = Pool()
    evaluate(Walker(), pool, [1_000_004], replan_every=3)
    assert pool.made[0].looks == 2  # 5 steps


def test_says_something_else():
    results = evaluate(Walker(), Pool(), evaluation_seeds(3), replan_every=4, instruction=lambda seed: "stand")
    assert not any(result.success for result in results)
    assert [result.steps for result in results] == [8, 8, 8]
    assert results[0].instruction == "stand"


def test_keeps_pictures_of_the_first_successes_and_failures():
    pool = Pool()
    settings = {
        "replan_every": 4,
        "record": 1,
        "instruction": lambda seed: "stand" if seed % 2 else "walk",
    }
    results = evaluate(Walker(), pool, evaluation_seeds(8), workers=several(2), **settings)
    kept = [result for result in results if result.pictures is not None]
    assert sorted(result.success for result in kept) == [False, True]
    for result in kept:
        assert result.pictures.shape == (result.steps + 1, 4, 8, 3)  # two views side by side, and the end
        left = result.seed % 5 + 1
        shown = [10 * (left - step * result.success) for step in range(result.steps + 1)]
        assert result.pictures[:, 0, 0, 0].tolist() == shown
    looks = sum(-(-result.steps // 4) for result in results) + sum(result.steps + 1 for result in kept)
    assert sum(env.looks for env in pool.made) == looks
    more = evaluate(Walker(), Pool(), [1_000_010, 1_000_011], recorded=kept[:1], **settings)
    assert [result.pictures is not None for result in more] == [not kept[0].success, kept[0].success]


def test_an_episode_that_is_never_the_same_has_no_video_but_counts():
    with pytest.warns(UserWarning, match="no video of seed 1000000: an episode must be the same each time"):
        results = evaluate(Walker(), Pool(Forgetful), evaluation_seeds(1), record=1)
    assert (results[0].success, results[0].error, results[0].pictures) == (True, None, None)


def test_environments_are_closed_whatever_happens():
    class Broken:
        def act(self, observations, *, generator):
            raise RuntimeError("broken")

    pool = Pool()
    with pytest.raises(RuntimeError, match="broken"):
        evaluate(Broken(), pool, evaluation_seeds(3), workers=several(3))
    assert len(pool.made) == 3
    assert all(env.closed for env in pool.made)
    evaluate(Walker(), pool, evaluation_seeds(1))
    assert pool.made[-1].closed


def test_expert_and_random_actions():
    seeds = evaluation_seeds(10)
    best = evaluate_expert(Pool(), seeds, make_expert=Sprinter, workers=several(3))
    assert all(result.success for result in best)
    assert [result.steps for result in best] == [seed % 5 + 1 for seed in seeds]
    first, second = evaluate_random(Pool(), seeds), evaluate_random(Pool(), seeds, workers=several(4))
    assert first == second
    assert 0 < sum(result.success for result in first) < 10


@pytest.mark.parametrize("how", ["raise", "die", "hang"])
def test_a_fault_of_the_environment_is_never_a_failure_of_the_policy(how, tmp_path):
    """One fault: the episode runs again and counts. Two: it is an error and counts neither way."""
    seeds = evaluation_seeds(6)
    faults = {seeds[2]: (how, 1), seeds[3]: (how, 2)}
    make = partial(Breaking, str(tmp_path), faults)
    told = []
    with env_workers(2, timeout_s=1.0 if how == "hang" else 30.0) as workers:
        results = evaluate(Walker(), make, seeds, workers=workers, on_episode=told.append)
        again = evaluate(Walker(), Corridor, seeds, workers=workers)  # the workers are as good as new
    assert [result.seed for result in results] == list(seeds)
    clean = evaluate(Walker(), Corridor, seeds)
    assert again == clean
    assert [result for result in results if result.seed != seeds[3]] == [r for r in clean if r.seed != seeds[3]]
    text = {"raise": "RuntimeError: the physics blew up", "die": "status 9", "hang": "within 1 s"}[how]
    assert text in results[3].error
    assert (results[3].success, results[3].steps, results[3].task) == (False, 0, "toy/corridor")
    assert len(list(tmp_path.iterdir())) == 3
    assert len(told) == 6
    count = SuccessCount.of(results)
    assert (count.successes, count.episodes, count.errors, count.rate) == (5, 5, 1, 1.0)


def test_a_fault_of_the_environment_in_this_process():
    class Once(Corridor):
        made = 0

        def __init__(self):
            super().__init__()
            type(self).made += 1

        def look(self):
            if self.made == 1 or self.instruction == "walk 3":
                raise ValueError("no picture")
            return super().look()

    results = evaluate(Walker(), Once, evaluation_seeds(3))
    assert [result.error for result in results[:2]] == [None, None]
    assert results[2].error == "the environment must not fail, got ValueError: no picture"
    assert [result.success for result in results] == [True, True, False]


def test_what_the_environment_refuses_is_raised_and_not_counted():
    class Picky(Corridor):
        def step(self, action):
            raise ShapeError("action must have the shape (2,), got (1,). Cut it.")

    with pytest.raises(ShapeError, match="action must have the shape"):
        evaluate(Walker(), Picky, evaluation_seeds(1))


def test_refuses():
    with pytest.raises(SettingError, match="seeds must be at least 1000000, got 10000"):
        evaluate(Walker(), Pool(), [10_000])
    with pytest.raises(SettingError, match="record must be at least 0, got -1"):
        evaluate(Walker(), Pool(), evaluation_seeds(1), record=-1)
    with pytest.raises(SettingError, match="replan_every must be at least 1, got 0"):
        evaluate(Walker(), Pool(), evaluation_seeds(1), replan_every=0)


def test_what_the_robot_measures_goes_into_the_observation():
    class Feeling(Corridor):
        def robot_state(self):
            return np.array([self.left])

    class Careful(Walker):
        def act(self, observations, *, generator):
            states.append([float(seen.state[0]) for seen in observations])
            return super().act(observations, generator=generator)

    states = []
    evaluate(Careful(), Feeling, [1_000_004], replan_every=2)
    assert states == [[5.0], [3.0], [1.0]]
    walker = Walker()
    evaluate(walker, Corridor, [1_000_004])
    assert walker.last[0].state is None
