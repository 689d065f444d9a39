import numpy as np
import pytest

from vla_kit.errors import SettingError, ShapeError
from vla_kit.policy import ChunkExecutor


def test_hands_out_the_beginning_of_each_chunk_in_order():
    executor = ChunkExecutor(replan_every=3)
    taken = []
    for start in (0, 10):
        assert executor.needs_chunk
        executor.give(np.arange(start, start + 5, dtype=float)[:, None])
        while not executor.needs_chunk:
            taken.append(executor.next().item())
    assert taken == [0, 1, 2, 10, 11, 12]


def test_a_short_chunk_is_used_up():
    executor = ChunkExecutor(replan_every=8)
    executor.give(np.zeros((2, 1)))
    executor.next()
    executor.next()
    assert executor.needs_chunk


def test_reset_forgets():
    executor = ChunkExecutor(replan_every=8)
    executor.give(np.zeros((2, 1)))
    executor.reset()
    assert executor.needs_chunk


def test_refuses():
    with pytest.raises(SettingError, match="replan_every must be at least 1, got 0"):
        ChunkExecutor(replan_every=0)
    executor = ChunkExecutor(replan_every=1)
    with pytest.raises(SettingError, match="next must come after give"):
        executor.next()
    for wrong in (np.zeros((0, 2)), np.zeros(2)):
        with pytest.raises(ShapeError, match="chunk must have the shape"):
            executor.give(wrong)
