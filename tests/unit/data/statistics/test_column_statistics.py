import numpy as np
import pytest

from vla_kit.actions import QuantileStats
from vla_kit.data.jobs import SerialExecutor
from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.data.statistics import StatisticsCache, source_statistics, summarize_columns
from vla_kit.errors import DataError, SettingError


def make_source(lengths=(30, 1, 0, 50), *, seed=0, name="memory"):
    rng = np.random.default_rng(seed)
    episodes = [
        MemoryEpisode(
            columns={
                "action": np.column_stack(
                    [rng.normal(size=(length, 2)), rng.integers(0, 2, length), np.full(length, 3)]
                ),
                "state": rng.normal(size=(length, 1)).astype(np.float32),
            }
        )
        for length in lengths
    ]
    return MemorySource(episodes, name=name), episodes


class CountingExecutor:
    def __init__(self):
        self.calls = 0

    def map(self, function, blocks):
        self.calls += 1
        return SerialExecutor().map(function, blocks)


def test_every_column_counts_every_frame(monkeypatch):
    monkeypatch.setattr("vla_kit.data.statistics.columns._BLOCK_FRAMES", 31)
    source, episodes = make_source()
    stats = source_statistics(source)
    assert list(stats) == ["action", "state"]
    for key in stats:
        expected = QuantileStats.from_frames(np.concatenate([episode.columns[key] for episode in episodes]))
        assert (stats[key].count, stats[key].fingerprint) == (81, expected.fingerprint)
    assert source_statistics(source, columns=["state"], episodes=[3])["state"].count == 50


def test_binary_and_constant_channels_are_visible():
    source, _ = make_source()
    summary = summarize_columns(source)["action"]
    assert (summary.binary, summary.exact) == ((2,), True)
    assert summary.stats.minimum[3] == summary.stats.q99[3] == 3


def test_kept_and_found_again(tmp_path):
    cache, executor = StatisticsCache(tmp_path), CountingExecutor()
    first = summarize_columns(make_source()[0], cache=cache, executor=executor)
    again = summarize_columns(make_source(name="moved")[0], cache=cache, executor=executor)
    assert executor.calls == 1
    assert {key: each.to_dict() for key, each in first.items()} == {key: each.to_dict() for key, each in again.items()}
    summarize_columns(make_source(seed=1)[0], cache=cache, executor=executor)
    summarize_columns(make_source()[0], cache=cache, executor=executor, columns=["state"])
    summarize_columns(make_source()[0], cache=cache, executor=executor, episodes=[0])
    assert executor.calls == 4


def test_edited_cache_is_an_error(tmp_path):
    source, _ = make_source()
    summarize_columns(source, cache=StatisticsCache(tmp_path))
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text().replace('"binary"', '"other"'))
    with pytest.raises(DataError, match=r"json must hold statistics, got: KeyError\('binary'\). Delete the file"):
        summarize_columns(source, cache=StatisticsCache(tmp_path))


def test_beyond_the_budget_quantiles_are_estimates():
    pytest.importorskip("datasketches")
    source, _ = make_source((3000, 2000))
    summary = summarize_columns(source, columns=["state"], exact_bytes=100)["state"]
    assert not summary.exact
    exact = source_statistics(source)["state"]
    assert summary.stats.q01.item() == pytest.approx(exact.q01.item(), abs=0.05)


def test_wrong_arguments():
    source, _ = make_source()
    with pytest.raises(DataError, match=r"memory:memory has no column 'actoin'. Choose of \['action', 'state'\]"):
        source_statistics(source, columns=["actoin"])
    with pytest.raises(SettingError, match=r"episodes must lie in \[0, 4\) of memory:memory, got 4"):
        source_statistics(source, episodes=[4])
    with pytest.raises(DataError, match=r"must hold frames, got none in the chosen episodes"):
        source_statistics(source, episodes=[2])


def test_nan_is_an_error_of_the_data():
    broken = MemorySource([MemoryEpisode(columns={"state": np.array([[0.0], [np.nan]])})])
    with pytest.raises(DataError, match=r"state must be finite, got NaN or infinity in episode 0"):
        source_statistics(broken)
