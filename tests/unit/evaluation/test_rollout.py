import numpy as np
import pytest

from vla_kit.envs import StepResult
from vla_kit.errors import SettingError
from vla_kit.evaluation import evaluate, evaluate_expert, evaluate_random, evaluation_seeds


class Corridor:
    """Walk `seed % 5 + 1` steps of 1 to the goal within 8 decisions; the picture shows how far it is."""

    task, embodiment, view_tags, max_steps, rate_hz = "toy/corridor", "walker", ("cam", "wrist"), 8, 10.0
    action_low, action_high = -np.ones(1), np.ones(1)

    def __init__(self):
        self.instruction, self.looks, self.closed = "", 0, False

    def reset(self, seed):
        self.left, self.taken, self.over, self.instruction = seed % 5 + 1, 0, False, f"walk {seed % 5 + 1}"
        return self.instruction

    def look(self):
        self.looks += 1
        return {tag: np.full((4, 4, 3), int(10 * max(self.left, 0)), dtype=np.uint8) for tag in self.view_tags}

    def step(self, action):
        assert not self.over
        self.left -= float(np.clip(action, -1, 1)[0])
        self.taken += 1
        success = self.left <= 0
        self.over = success or self.taken == self.max_steps
        return StepResult(success=success, done=self.over)

    def close(self):
        self.closed = True


class Walker:
    """Walks on, unless told not to; remembers what it was asked."""

    def __init__(self):
        self.batches, self.generators = [], []

    def act(self, observations, *, generator):
        self.batches.append(len(observations))
        self.generators += [one.initial_seed() for one in generator]
        self.last = observations
        return [np.full((4, 1), 0.0 if seen.instruction == "stand" else 1.0) for seen in observations]


class Pool:
    def __init__(self):
        self.made = []

    def __call__(self):
        self.made.append(Corridor())
        return self.made[-1]


def test_results_keep_the_order_of_the_seeds_whatever_the_number_of_environments():
    seeds = evaluation_seeds(13)
    tables = []
    for num_envs in (1, 4, 50):
        pool = Pool()
        results = evaluate(Walker(), pool, seeds, replan_every=2, num_envs=num_envs)
        tables.append(results)
        assert [result.seed for result in results] == list(seeds)
        assert len(pool.made) == min(num_envs, 13)
        assert all(env.closed for env in pool.made)
    assert tables[0] == tables[1] == tables[2]
    assert [result.steps for result in tables[0]] == [seed % 5 + 1 for seed in seeds]
    assert all(result.success for result in tables[0])
    assert tables[0][1].instruction == "walk 2"


def test_environments_that_need_a_chunk_share_a_batch():
    walker = Walker()
    evaluate(walker, Pool(), evaluation_seeds(5), replan_every=4, num_envs=5)
    assert walker.batches == [5, 1]  # one of five needs a fifth step
    assert walker.generators[:5] == list(evaluation_seeds(5))


def test_renders_only_where_the_policy_looks():
    pool = Pool()
    evaluate(Walker(), pool, [1_000_004], replan_every=3, num_envs=1)
    assert pool.made[0].looks == 2  # 5 steps


def test_says_something_else():
    walker = Walker()
    results = evaluate(walker, Pool(), evaluation_seeds(3), replan_every=4, instruction=lambda seed: "stand")
    assert not any(result.success for result in results)
    assert [result.steps for result in results] == [8, 8, 8]
    assert results[0].instruction == "stand"


def test_keeps_pictures_of_the_first_successes_and_failures():
    results = evaluate(
        Walker(),
        Pool(),
        evaluation_seeds(8),
        replan_every=4,
        num_envs=2,
        record=1,
        instruction=lambda seed: "stand" if seed % 2 else "walk",
    )
    kept = [result for result in results if result.pictures is not None]
    assert sorted(result.success for result in kept) == [False, True]
    for result in kept:
        assert result.pictures.shape == (result.steps + 1, 4, 8, 3)  # two views side by side, and the end
    success = next(result for result in kept if result.success)
    assert success.pictures[-1].max() == 0


def test_environments_are_closed_when_the_policy_fails():
    class Broken:
        def act(self, observations, *, generator):
            raise RuntimeError("broken")

    pool = Pool()
    with pytest.raises(RuntimeError, match="broken"):
        evaluate(Broken(), pool, evaluation_seeds(3))
    assert len(pool.made) == 3
    assert all(env.closed for env in pool.made)


def test_expert_and_random_actions():
    class Expert:
        def __init__(self, env):
            self.ready = False

        def reset(self):
            self.ready = True

        def act(self):
            assert self.ready
            return np.ones(1)

    seeds = evaluation_seeds(10)
    assert all(result.success for result in evaluate_expert(Pool(), seeds, make_expert=Expert))
    first, second = evaluate_random(Pool(), seeds), evaluate_random(Pool(), seeds)
    assert first == second
    assert 0 < sum(result.success for result in first) < 10


def test_refuses():
    with pytest.raises(SettingError, match="seeds must be at least 1000000, got 10000"):
        evaluate(Walker(), Pool(), [10_000])
    with pytest.raises(SettingError, match="num_envs must be at least 1, got 0"):
        evaluate(Walker(), Pool(), evaluation_seeds(1), num_envs=0)
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
