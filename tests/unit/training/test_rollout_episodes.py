from functools import partial

import numpy as np
import pytest
import torch
from rl_parts import Breaking, Corridor, Grey, Lost, Shrinking, Unclear

from vla_kit.envs import EnvHere, SimulationError, env_workers
from vla_kit.errors import DataError
from vla_kit.flow import StochasticPath
from vla_kit.training.drawn_chunk import DrawnChunk
from vla_kit.training.rollout import PlannedEpisode, RolloutSeconds, play_episodes
from vla_kit.training.rollout_batch import RolloutBatch

SECONDS = RolloutSeconds()


class Walker:
    """Walks, in chunks of four; expects what it counts."""

    def __init__(self, speed=1.0):
        self.speed, self.batches = speed, []

    def __call__(self, observations):
        self.batches.append([one.instruction for one in observations])
        empty = torch.zeros(1, 1, 4, 2)
        path = StochasticPath(
            actions=empty[0],
            before=empty,
            after=empty,
            step=torch.zeros(1, 1, dtype=torch.long),
            log_prob=empty[..., 0, 0],
        )
        mask = torch.tensor([[True, False]] * 4)
        return [
            DrawnChunk(
                actions=np.full((4, 1), self.speed, dtype=np.float32),
                path=path,
                mask=mask,
                context=None,
                value=0.1 * sum(map(len, self.batches)),
            )
            for _ in observations
        ]


def plan(*tasks):
    return [PlannedEpisode(number=number, task=task, seed=seed) for number, (task, seed) in enumerate(tasks)]


def play(make_env, *seeds, hosts=None, decide=None, **settings):
    return play_episodes(
        plan(*(("walk", seed) for seed in seeds)),
        decide or Walker(),
        make_envs={"walk": make_env},
        hosts=hosts or [EnvHere()],
        **settings,
    )


def test_an_episode_ends_inside_a_chunk_at_success():
    (short, long), seconds = play(Corridor, 0, 4)  # one step to the goal, and five
    assert [chunk.steps for chunk in short.chunks] == [1]
    assert [chunk.steps for chunk in long.chunks] == [4, 1]
    assert [one.success for one in (short, long)] == [True, True]
    assert [one.timeout for one in (short, long)] == [None, None]
    assert min(seconds.simulation, seconds.policy) > 0


def test_time_that_runs_out_is_seen():
    (slow,), _ = play(Corridor, 4, decide=Walker(0.25))  # two of five steps in eight decisions
    assert not slow.success
    assert [chunk.steps for chunk in slow.chunks] == [4, 4]
    assert slow.timeout is not None
    assert int(slow.timeout.views["cam"][0, 0, 0]) == 30


def test_time_that_runs_out_is_not_looked_at_where_nobody_asks():
    env = Corridor()
    (slow,), _ = play(lambda: env, 4, decide=Walker(0.25), see_timeouts=False)
    assert slow.timeout is None
    assert env.looks == 2
    batch = RolloutBatch.of([slow], value=len, seconds=SECONDS)
    assert batch.truncated.tolist() == [False, True]
    assert batch.next_values.tolist() == pytest.approx([0.2, 0.0])


def test_replans_within_a_chunk():
    (episode,), _ = play(Corridor, 4, replan_every=2)
    assert [chunk.steps for chunk in episode.chunks] == [2, 2, 1]


def test_pictures_are_rendered_where_the_policy_looks():
    env = Corridor()
    play(lambda: env, 4)
    assert env.looks == 2


def test_tasks_share_batches_and_hosts_help_each_other():
    walker, hosts = Walker(), [EnvHere() for _ in range(4)]
    tasks = [("near", 0), ("far", 4), ("far", 9), ("far", 14)]
    made = {name: partial(Corridor) for name in ("near", "far")}
    played, _ = play_episodes(plan(*tasks), walker, make_envs=made, hosts=hosts)
    assert [(one.planned.task, one.steps) for one in played] == [("near", 1), ("far", 5), ("far", 5), ("far", 5)]
    assert sorted(map(len, walker.batches)) == [1, 2, 2, 2]  # halves of two hosts; one episode ends before


@pytest.mark.parametrize(
    ("env", "said"),
    [
        (Unclear, "success must be True or False, got nan"),
        (Shrinking, "pictures must keep their shapes within an episode"),
        (Grey, r"pictures must be uint8 of shape \(height, width, 3\) for the views \['cam', 'wrist'\]"),
        (Lost, "state must be finite, got .*nan"),
    ],
)
def test_what_is_no_episode_is_left_out(env, said):
    (episode,), _ = play(env, 4)
    assert (episode.chunks, episode.success) == ((), False)
    with pytest.raises(DataError, match=f"episodes must hold at least one that was played.*{said}"):
        RolloutBatch.of([episode], value=len, seconds=SECONDS)


@pytest.mark.parametrize("how", ["raise", "die"])
def test_a_host_that_fails_once_is_restarted_and_twice_given_up(how, tmp_path):
    faults = {4: (how, 1), 9: (how, 2)}
    with env_workers(2) as workers:
        played, _ = play(partial(Breaking, tmp_path, faults), 0, 4, 9, 14, hosts=workers)
    assert [one.success for one in played] == [True, True, False, True]
    assert [one.error is None for one in played] == [True, True, False, True]
    assert len(list(tmp_path.iterdir())) == 3


def test_a_host_that_hangs_is_restarted(tmp_path):
    with env_workers(1, timeout_s=4.0) as workers:
        (episode,), _ = play(partial(Breaking, tmp_path, {4: ("hang", 1)}), 4, hosts=workers)
    assert episode.success
    assert len(list(tmp_path.iterdir())) == 1


def test_an_environment_that_cannot_be_made_is_raised():
    def broken():
        raise SimulationError("no renderer")

    with pytest.raises(SimulationError, match="no renderer"):
        play(broken, 0)


def test_a_batch_lines_up_decisions():
    solved, slow = play(Corridor, 4)[0] + play(Corridor, 9, decide=Walker(0.25))[0]
    broken = play(Grey, 0)[0]
    batch = RolloutBatch.of([solved, *broken, slow], value=lambda seen: [7.0] * len(seen), seconds=SECONDS)
    assert len(batch) == 4
    assert batch.rewards.tolist() == [0, 1, 0, 0]
    assert batch.terminated.tolist() == [False, True, False, False]
    assert batch.truncated.tolist() == [False, False, False, True]
    assert batch.values.tolist() == pytest.approx([0.1, 0.2, 0.1, 0.2])
    assert batch.next_values.tolist() == pytest.approx([0.2, 0.0, 0.2, 7.0])
    assert batch.episode.tolist() == [0, 0, 1, 1]
    assert batch.carried.sum((1, 2)).tolist() == [4, 1, 4, 4]
    assert not batch.carried[..., 1].any()  # no channel of the robot
    assert batch.datasets == ["walk"] * 4
    assert batch.embodiments == ["walker"] * 4
