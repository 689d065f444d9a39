import pickle
from functools import partial

import numpy as np
import pytest
import torch

from vla_kit.actions import QuantileStats
from vla_kit.data.action_columns import ActionColumns
from vla_kit.data.jobs import SerialExecutor
from vla_kit.data.jobs.processes import ProcessExecutor
from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.data.robot_reader import RobotReader
from vla_kit.data.statistics import (
    ActionPart,
    StatisticsCache,
    action_statistics,
    merged_action_statistics,
    merged_state_statistics,
)
from vla_kit.errors import DataError, SettingError

LENGTHS = (40, 7, 90, 1)
ABSOLUTE = ActionColumns("action")
RELATIVE = ActionColumns("action", pseudo=True, representation="delta_chunk")


def make_episodes(seed=0, *, size=3, lengths=LENGTHS):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(length, size)).astype(np.float32) for length in lengths]


def make_reader(episodes, *, embodiment="arm", action=ABSOLUTE, name="memory"):
    source = MemorySource([MemoryEpisode(columns={"action": values}) for values in episodes], name=name)
    return RobotReader(source, embodiment=embodiment, actions=[action])


def assert_close(stats, frames):
    expected = QuantileStats.from_frames(frames)
    assert (stats.count, stats.fingerprint) == (expected.count, expected.fingerprint)
    for field in ("minimum", "maximum", "mean", "std"):
        torch.testing.assert_close(getattr(stats, field), getattr(expected, field))


class CountingExecutor:
    """Says how often something was counted."""

    def __init__(self):
        self.calls = 0

    def map(self, function, blocks):
        self.calls += 1
        return SerialExecutor().map(function, blocks)


class PicklingExecutor:
    """What crosses processes elsewhere is pickled here, too."""

    def map(self, function, blocks):
        sent = pickle.loads(pickle.dumps((function, blocks)))
        return (pickle.loads(pickle.dumps(result)) for result in SerialExecutor().map(*sent))


def test_counts_every_frame_of_every_episode(monkeypatch):
    monkeypatch.setattr("vla_kit.data.statistics.actions._BLOCK_FRAMES", 45)  # three blocks
    episodes = make_episodes()
    assert_close(action_statistics(make_reader(episodes)), np.concatenate(episodes))


def test_counts_the_chosen_episodes_only():
    episodes = make_episodes()
    stats = action_statistics(make_reader(episodes), episodes=[2, 0])
    assert_close(stats, np.concatenate([episodes[2], episodes[0]]))


@pytest.mark.parametrize("horizon", [1, 5, 40, 200])
def test_chunk_relative_actions_count_every_step_of_every_chunk(horizon, monkeypatch):
    monkeypatch.setattr("vla_kit.data.statistics.actions._BLOCK_FRAMES", 300)
    episodes = make_episodes()
    reader = make_reader(episodes, action=RELATIVE)
    chunks = [
        reader.chunk(index, start, horizon)
        for index, length in enumerate(LENGTHS)
        for start in range(int(reader.num_steps[index]))
    ]
    assert reader.chunk_relative
    assert_close(action_statistics(reader, horizon=horizon), torch.cat(chunks))


def test_pseudo_actions_lack_the_last_frame():
    episodes = make_episodes()
    steps = ActionColumns("action", pseudo=True, representation="delta_step")
    stats = action_statistics(make_reader(episodes, action=steps))
    assert_close(stats, np.concatenate([np.diff(values, axis=0) for values in episodes]))
    assert stats.count == sum(LENGTHS) - len(LENGTHS)


def test_horizon_does_not_matter_where_chunks_do_not(tmp_path):
    reader, cache, executor = make_reader(make_episodes()), StatisticsCache(tmp_path), CountingExecutor()
    for horizon in (None, 4, 8):
        action_statistics(reader, horizon=horizon, cache=cache, executor=executor)
    assert executor.calls == 1


def test_kept_under_data_recipe_episodes_and_horizon(tmp_path):
    episodes, cache, executor = make_episodes(), StatisticsCache(tmp_path), CountingExecutor()
    count = partial(action_statistics, cache=cache, executor=executor)
    relative = make_reader(episodes, action=RELATIVE)
    different = [
        lambda: count(make_reader(episodes)),
        lambda: count(make_reader(make_episodes(1))),
        lambda: count(make_reader(episodes), episodes=[0, 1]),
        lambda: count(make_reader(episodes), exact_bytes=10**9),
        lambda: count(relative, horizon=3),
        lambda: count(relative, horizon=4),
    ]
    first = [ask() for ask in different]
    assert executor.calls == len(different)
    again = [ask() for ask in different]
    assert executor.calls == len(different)
    for one, other in zip(first, again, strict=True):
        assert one.to_dict() == other.to_dict()
    count(make_reader(episodes, name="renamed"), episodes=range(len(LENGTHS)))
    assert executor.calls == len(different)


def test_merges_the_sets_of_each_robot():
    sets = {"a": ("arm", 0), "b": ("humanoid", 1), "c": ("arm", 2)}
    episodes = {name: make_episodes(seed) for name, (_, seed) in sets.items()}
    parts = [
        ActionPart(open=partial(make_reader, episodes[name], embodiment=robot, name=name))
        for name, (robot, _) in sets.items()
    ]
    stats = merged_action_statistics(parts)
    assert list(stats) == ["arm", "humanoid"]
    assert_close(stats["arm"], np.concatenate([*episodes["a"], *episodes["c"]]))
    assert_close(stats["humanoid"], np.concatenate(episodes["b"]))


def test_one_set_is_open_at_a_time_and_none_where_the_result_is_known(tmp_path):
    opened, open_now, most = [], [], []

    class Held:
        """A reader that says when it is let go."""

        def __init__(self, index):
            opened.append(index)
            open_now.append(index)
            most.append(len(open_now))
            self._index, self._reader = index, make_reader(make_episodes(index), name=str(index))

        def __getattr__(self, name):
            return getattr(self._reader, name)

        def __del__(self):
            open_now.remove(self._index)

    parts = [ActionPart(open=partial(Held, index)) for index in range(5)]
    cache = StatisticsCache(tmp_path)
    first = merged_action_statistics(parts, cache=cache)["arm"]
    assert max(most) <= 2  # the next is opened before the name of the last is given away
    assert opened == [*range(5), *range(5)]
    assert merged_action_statistics(parts, cache=cache)["arm"].fingerprint == first.fingerprint
    assert len(opened) == 15
    assert not open_now


def test_episodes_may_follow_from_the_opened_reader():
    episodes = make_episodes()
    part = ActionPart(open=partial(make_reader, episodes), episodes=lambda reader: [int(np.argmax(reader.num_steps))])
    assert_close(merged_action_statistics([part])["arm"], episodes[2])


@pytest.mark.parametrize("exact_bytes", [10**6, 1000])
def test_executor_makes_no_difference(exact_bytes, monkeypatch):
    if exact_bytes == 1000:
        pytest.importorskip("datasketches")
    monkeypatch.setattr("vla_kit.data.statistics.actions._BLOCK_FRAMES", 5000)
    reader = make_reader(make_episodes(lengths=(3000, 4000, 4500, 200)))
    frames = torch.cat([reader.actions(index) for index in range(4)])
    one = action_statistics(reader, exact_bytes=exact_bytes)
    other = action_statistics(reader, exact_bytes=exact_bytes, executor=PicklingExecutor())
    assert one.to_dict() == other.to_dict()
    torch.testing.assert_close(one.q99, QuantileStats.from_frames(frames).q99, atol=0.02, rtol=0)


@pytest.mark.slow
def test_processes_count_the_same(monkeypatch):
    monkeypatch.setattr("vla_kit.data.statistics.actions._BLOCK_FRAMES", 45)
    reader = make_reader(make_episodes())
    expected = action_statistics(reader)
    assert action_statistics(reader, executor=ProcessExecutor(2)).to_dict() == expected.to_dict()


def test_nan_is_an_error_of_the_data():
    episodes = make_episodes()
    episodes[2][5, 1] = np.nan
    with pytest.raises(DataError, match=r"action must be finite, got NaN or infinity in episode 2"):
        action_statistics(make_reader(episodes))
    assert action_statistics(make_reader(episodes), episodes=[0, 1, 3]).count == 48


def test_wrong_arguments():
    reader = make_reader(make_episodes())
    relative = make_reader(make_episodes(), action=RELATIVE)
    for horizon in (None, 0):
        with pytest.raises(SettingError, match=rf"horizon must be at least 1 .*memory:memory, got {horizon}"):
            action_statistics(relative, horizon=horizon)
    for outside in (-1, 4):
        with pytest.raises(SettingError, match=rf"episodes must lie in \[0, 4\) of memory:memory, got {outside}"):
            action_statistics(reader, episodes=[0, outside])
    with pytest.raises(DataError, match=r"memory:memory must hold actions of 'arm', got no frame with one"):
        action_statistics(reader, episodes=[])
    parts = [ActionPart(open=partial(make_reader, make_episodes(size=size), name=f"of {size}")) for size in (3, 4)]
    with pytest.raises(DataError, match=r"of 'arm' must have one number of action channels, got 3 in .*of 3 and 4 in"):
        merged_action_statistics(parts)


def make_stateful(seed=0, *, name="memory", embodiment="arm", action=ABSOLUTE, size=2, state=True):
    rng = np.random.default_rng(seed)
    source = MemorySource(
        [
            MemoryEpisode(columns={"action": rng.normal(size=(length, 3)), "joints": rng.normal(size=(length, size))})
            for length in LENGTHS
        ],
        name=name,
    )
    pieces = [ActionColumns("joints")] if state else []
    return RobotReader(source, embodiment=embodiment, actions=[action], state=pieces)


def joints_of(reader, *, drop_last=False):
    columns = [reader.source.column(index, "joints") for index in range(len(LENGTHS))]
    return np.concatenate([column[: len(column) - drop_last] for column in columns]).astype(np.float32)


@pytest.mark.parametrize("action", [ABSOLUTE, RELATIVE])
def test_states_count_once_per_frame_with_an_action(action, monkeypatch):
    monkeypatch.setattr("vla_kit.data.statistics.actions._BLOCK_FRAMES", 45)
    reader = make_stateful(action=action)
    (stats,) = merged_state_statistics([ActionPart(open=lambda: reader)]).values()
    assert_close(stats, joints_of(reader, drop_last=action is RELATIVE))


def test_states_of_the_sets_of_a_robot_are_merged_and_kept_apart_from_actions(tmp_path):
    cache, executor = StatisticsCache(tmp_path), CountingExecutor()
    parts = [ActionPart(open=partial(make_stateful, seed, name=str(seed))) for seed in (0, 1)]
    frames = np.concatenate([joints_of(make_stateful(seed)) for seed in (0, 1)])
    for _ in range(2):
        assert_close(merged_state_statistics(parts, cache=cache, executor=executor)["arm"], frames)
        assert merged_action_statistics(parts, cache=cache, executor=executor)["arm"].size == 3
    assert executor.calls == 2


def test_states_that_cannot_be_counted():
    with pytest.raises(DataError, match=r"memory:memory must hold states of 'arm', got none"):
        merged_state_statistics([ActionPart(open=partial(make_stateful, state=False))])
    parts = [ActionPart(open=partial(make_stateful, size=size, name=f"of {size}")) for size in (2, 5)]
    with pytest.raises(DataError, match=r"of 'arm' must have one number of state channels, got 2 in .* 5 in"):
        merged_state_statistics(parts)


def test_nan_in_a_state_is_an_error_of_the_data():
    joints = np.zeros((4, 2))
    joints[2, 1] = np.nan
    source = MemorySource([MemoryEpisode(columns={"action": np.zeros((4, 1)), "joints": joints})])
    reader = RobotReader(source, embodiment="arm", state=[ActionColumns("joints")])
    with pytest.raises(DataError, match=r"joints must be finite, got NaN or infinity in episode 0"):
        merged_state_statistics([ActionPart(open=lambda: reader)])
    with pytest.raises(DataError, match=r"joints must be finite"):
        reader.states(0, 0, 1)
