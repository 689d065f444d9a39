from types import SimpleNamespace

import pytest
import torch

from vla_kit.errors import SettingError
from vla_kit.training.step_seed import StepSeed


def draws(callback, count, *, rank=0):
    drawn = []
    for index in range(count):
        callback.on_train_batch_start(SimpleNamespace(global_rank=rank), None, None, index)
        drawn.append(torch.rand(1).item())
    return drawn


def test_draws_depend_on_seed_rank_and_number_alone():
    torch.manual_seed(1)
    first = draws(StepSeed(3), 4)
    torch.manual_seed(2)
    assert draws(StepSeed(3), 4) == first
    assert len(set(first)) == 4
    assert set(draws(StepSeed(4), 4)).isdisjoint(first)
    assert set(draws(StepSeed(3), 4, rank=1)).isdisjoint(first)


def test_goes_on_after_the_batches_of_a_checkpoint():
    whole = draws(StepSeed(3), 4)
    before, after = StepSeed(3), StepSeed(3)
    draws(before, 2)
    after.load_state_dict(before.state_dict())
    assert draws(after, 2) == whole[2:]


def test_refuses_a_negative_seed():
    with pytest.raises(SettingError, match="seed must be at least 0, got -1"):
        StepSeed(-1)
