import math

import numpy as np
import pytest

from vla_kit.actions import ActionSpace, ChannelGroup
from vla_kit.errors import SettingError, ShapeError
from vla_kit.policy import ChunkExecutor, EnsembleExecutor


def joints(count=1):
    return ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad", count=count)])


def test_weights_by_hand():
    """Three chunks cover the third instant; the oldest weighs 1, the next exp(-1), the newest exp(-2)."""
    executor = EnsembleExecutor(joints(), decay=1.0)
    taken = []
    for chunk in ([1.0, 2.0, 3.0], [12.0, 13.0, 14.0], [103.0, 104.0, 105.0]):
        assert executor.needs_chunk
        executor.give(np.array(chunk)[:, None])
        taken.append(executor.next().item())
    second, third = math.exp(-1), math.exp(-2)
    assert taken[0] == 1
    assert taken[1] == pytest.approx((2 + second * 12) / (1 + second))
    assert taken[2] == pytest.approx((3 + second * 13 + third * 103) / (1 + second + third))


def test_used_up_chunks_leave_and_the_oldest_left_weighs_most():
    executor = EnsembleExecutor(joints(), decay=1.0)
    for chunk in ([1.0], [2.0, 20.0], [30.0, 0.0]):
        executor.give(np.array(chunk)[:, None])
        last = executor.next().item()
    assert last == pytest.approx((20 + math.exp(-1) * 30) / (1 + math.exp(-1)))


def test_chunks_come_every_few_steps():
    executor = EnsembleExecutor(joints(), replan_every=2, decay=0.0)
    executor.give(np.array([[0.0], [0.0], [0.0], [0.0]]))
    assert [executor.next().item(), executor.needs_chunk, executor.next().item(), executor.needs_chunk] == [
        0,
        False,
        0,
        True,
    ]
    executor.give(np.array([[8.0], [8.0], [8.0], [8.0]]))
    assert [executor.next().item(), executor.next().item()] == [4, 4]


def test_without_overlap_it_is_the_plain_executor():
    plain, ensemble = ChunkExecutor(replan_every=3), EnsembleExecutor(joints(2), replan_every=3)
    rng = np.random.default_rng(0)
    for _ in range(3):
        chunk = rng.normal(size=(3, 2))
        plain.give(chunk)
        ensemble.give(chunk)
        for _ in range(3):
            assert np.array_equal(plain.next(), ensemble.next())
        assert plain.needs_chunk
        assert ensemble.needs_chunk


def test_channels_that_have_no_mean_take_the_newest():
    space = ActionSpace(
        [
            ChannelGroup("position", kind="eef_position", reference="absolute", unit="m"),
            ChannelGroup("turned", kind="eef_rotation", reference="absolute", unit="rad"),
            ChannelGroup("turn", kind="eef_rotation", reference="delta", unit="rad"),
            ChannelGroup("gripper", kind="gripper", reference="absolute", unit="0 or 1", normalized=False),
        ]
    )
    executor = EnsembleExecutor(space, decay=0.0)
    executor.give(np.array([[0.0, 0.0, 0.0, 0.0]] * 2, dtype=np.float32))
    executor.next()
    executor.give(np.array([[2.0, 3.0, 4.0, 1.0]] * 2, dtype=np.float32))
    action = executor.next()
    assert action.tolist() == [1.0, 3.0, 2.0, 1.0]
    assert action.dtype == np.float32


def test_reset_forgets():
    executor = EnsembleExecutor(joints(), replan_every=2)
    executor.give(np.array([[5.0], [5.0]]))
    executor.next()
    executor.reset()
    assert executor.needs_chunk
    executor.give(np.array([[1.0], [1.0]]))
    assert executor.next().item() == 1


def test_refuses():
    with pytest.raises(SettingError, match="replan_every must be at least 1, got 0"):
        EnsembleExecutor(joints(), replan_every=0)
    with pytest.raises(SettingError, match="decay must be finite, got nan"):
        EnsembleExecutor(joints(), decay=math.nan)
    executor = EnsembleExecutor(joints(2))
    with pytest.raises(SettingError, match="next must come after give"):
        executor.next()
    for wrong in (np.zeros((0, 2)), np.zeros(2), np.zeros((4, 3))):
        with pytest.raises(ShapeError, match=r"chunk must have the shape \(step, 2\)"):
            executor.give(wrong)
