import numpy as np
import pytest
import torch

from vla_kit.envs import StepResult
from vla_kit.errors import SettingError
from vla_kit.evaluation.policy_start import PolicyStart


class Corridor:
    """Ends after `length` decisions and counts what is asked of it."""

    embodiment, instruction = "cart", "drive on"

    def __init__(self, length=1000):
        self.length, self.actions, self.looks = length, [], 0

    def look(self):
        self.looks += 1
        return {"front": np.full((2, 2, 3), len(self.actions), dtype=np.uint8)}

    def robot_state(self):
        return np.array([len(self.actions)])

    def step(self, action):
        self.actions.append(action.tolist())
        return StepResult(success=False, done=len(self.actions) == self.length)


class Driver:
    """Answers with what it sees and with a draw of the noise."""

    def act(self, observations, *, generator):
        (seen,), (noise,) = observations, generator
        assert seen.instruction == "drive on"
        assert seen.state[0] == seen.views["front"][0, 0, 0]  # of the same instant
        first = float(seen.views["front"][0, 0, 0])
        return [np.array([[first, torch.rand((), generator=noise).item()]] * 4)]


def test_the_policy_looks_once_per_chunk_and_carries_out_its_first_actions():
    env = Corridor()
    assert PolicyStart(Driver(), chunks=(3, 3), replan_every=2)(env, 5)
    assert env.looks == 3
    assert [action[0] for action in env.actions] == [0, 0, 2, 2, 4, 4]


def test_chunks_and_noise_follow_from_the_seed():
    start = PolicyStart(Driver(), chunks=(1, 3), replan_every=4)
    runs = {}
    for seed in [*range(20), *range(20)]:
        env = Corridor()
        start(env, seed)
        assert runs.setdefault(seed, env.actions) == env.actions
    assert {len(actions) for actions in runs.values()} == {4, 8, 12}


def test_an_episode_that_ends_meanwhile_is_over():
    env = Corridor(length=3)
    assert not PolicyStart(Driver(), chunks=(1, 1), replan_every=4)(env, 0)
    assert len(env.actions) == 3


@pytest.mark.parametrize("chunks", [(0, 1), (2, 1)])
def test_impossible_numbers_of_chunks_are_refused(chunks):
    with pytest.raises(SettingError, match=r"chunks must be \(fewest, most\) with 1 <= fewest <= most, got"):
        PolicyStart(Driver(), chunks=chunks)
