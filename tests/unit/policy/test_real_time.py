"""Chunks that are computed while the robot moves: which action is due when, and how smooth the borders are."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_kit.errors import SettingError, ShapeError
from vla_kit.flow import CleanPrefix, GuidedPrefix, HardPrefix
from vla_kit.policy import ChunkExecutor, ChunkPrefix, RealTimeExecutor
from vla_kit.policy.real_time import known_actions


def labelled(number, horizon=8):
    """Chunk `number`, whose step `i` reads `100 number + i`."""
    return (100.0 * number + np.arange(horizon))[:, None]


def run(executor, steps, answer):
    """Actions of so many steps; `answer(count, prefix)` gives the chunks."""
    taken, count = [], 0
    for _ in range(steps):
        if executor.needs_chunk:
            executor.give(answer(count, getattr(executor, "prefix", None)))
            count += 1
        taken.append(executor.next().item())
    return taken


def test_a_chunk_takes_effect_when_its_computation_ends():
    taken = run(RealTimeExecutor(replan_every=4, delay=2), 12, lambda count, _: labelled(count))
    # chunk 1 sees step 4 and is there at step 6, whose index in it is 2; chunk 2 sees step 8 and is there at step 10
    assert taken == [0, 1, 2, 3, 4, 5, 102, 103, 104, 105, 202, 203]


def test_a_computation_that_takes_the_whole_interval():
    taken = run(RealTimeExecutor(replan_every=3, delay=3), 9, lambda count, _: labelled(count, 6))
    assert taken == [0, 1, 2, 3, 4, 5, 103, 104, 105]


def test_without_delay_it_is_the_plain_executor():
    first = run(RealTimeExecutor(replan_every=3, delay=0), 10, lambda count, _: labelled(count))
    assert first == run(ChunkExecutor(replan_every=3), 10, lambda count, _: labelled(count))


def test_the_prefix_is_what_is_left_of_the_running_chunk():
    seen = []

    def answer(count, prefix):
        seen.append(None if prefix is None else (prefix.actions[:, 0].tolist(), prefix.delay))
        return labelled(count)

    run(RealTimeExecutor(replan_every=4, delay=2), 9, answer)
    assert seen == [None, ([4, 5, 6, 7], 2), ([104, 105, 106, 107], 2)]


def test_reset_forgets():
    executor = RealTimeExecutor(replan_every=2, delay=1)
    run(executor, 5, lambda count, _: labelled(count))
    executor.reset()
    assert executor.prefix is None
    assert run(executor, 3, lambda count, _: labelled(count)) == [0, 1, 2]


def test_refuses():
    with pytest.raises(SettingError, match="replan_every must be at least 1, got 0"):
        RealTimeExecutor(replan_every=0, delay=0)
    for delay in (-1, 3):
        with pytest.raises(SettingError, match=rf"delay must lie in \[0, replan_every = 2\], got {delay}"):
            RealTimeExecutor(replan_every=2, delay=delay)
    executor = RealTimeExecutor(replan_every=2, delay=1)
    with pytest.raises(SettingError, match="next must come after give"):
        executor.next()
    for wrong in (np.zeros((2, 1)), np.zeros(4)):
        with pytest.raises(ShapeError, match="at least replan_every \\+ delay = 3 steps"):
            executor.give(wrong)
    with pytest.raises(SettingError, match="delay must be at least 0, got -1"):
        ChunkPrefix(actions=np.zeros((2, 1)), delay=-1)
    with pytest.raises(ShapeError, match=r"at least delay = 3 steps, got \(2, 1\)"):
        ChunkPrefix(actions=np.zeros((2, 1)), delay=3)


def test_known_actions_are_padded_like_the_chunks():
    mask = torch.zeros(3, 4, 3, dtype=torch.bool)
    mask[0, :, :2] = mask[1, :2, :3] = mask[2, :, :1] = True
    prefixes = [
        ChunkPrefix(actions=np.array([[1.0, 2.0]]), delay=1),
        ChunkPrefix(actions=np.ones((4, 3)), delay=0),  # more than its chunk has
        None,
    ]
    known, delay = known_actions(prefixes, mask)
    assert known.mask.sum((1, 2)).tolist() == [2, 6, 0]
    assert known.values[0, 0].tolist() == [1.0, 2.0, 0.0]
    assert known.values[~known.mask].eq(0).all()
    assert delay.tolist() == [1, 0, 0]
    with pytest.raises(ShapeError, match=r"prefixes must hold one entry per observation \(3\), got 2"):
        known_actions(prefixes[:2], mask)
    with pytest.raises(ShapeError, match=r"prefixes\[0\]\.actions must have the 2 channels of its robot, got \(1, 3\)"):
        known_actions([ChunkPrefix(actions=np.ones((1, 3)), delay=0), None, None], mask)


def test_a_robot_that_knows_what_it_is_doing_keeps_to_one_way(monkeypatch):
    """An exact policy that goes left or right with equal chance; docs/how-to/execute-chunks.md shows the numbers."""
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "benchmarks")
    benchmark = import_module("real_time_chunks")
    ignored, hard, guided, clean = (
        benchmark.changes_of_side(method, chunks=60) for method in (None, HardPrefix(), GuidedPrefix(), CleanPrefix())
    )
    assert ignored > 20
    assert hard < ignored
    assert guided <= 2
    assert clean == 0
