import numpy as np
import pytest
import torch

from vla_kit.actions import QuantileStats
from vla_kit.data import ActionColumns, MemoryEpisode, MemorySource, RobotReader
from vla_kit.data.statistics import ActionPart, action_statistics, merged_action_statistics
from vla_kit.data.statistics.partial import PartialStatistics
from vla_kit.errors import ShapeError, StatisticsError


def test_each_channel_counts_its_own_frames():
    rng = np.random.default_rng(0)
    frames, known = rng.normal(size=(400, 3)), rng.random((400, 3)) < [1.0, 0.5, 0.1]
    frames[~known] = np.nan  # whatever stands there
    one, other = PartialStatistics(3), PartialStatistics(3)
    one.add(frames[:150], known[:150])
    other.add(frames[150:], known[150:])
    one.merge(other)
    stats = one.summary()
    for channel in range(3):
        exact = QuantileStats.from_frames(frames[known[:, channel], channel][:, None])
        for name in ("q01", "q99", "minimum", "maximum", "mean", "std"):
            assert getattr(stats, name)[channel].item() == pytest.approx(getattr(exact, name).item(), abs=1e-6)
    assert stats.count == 400


def test_a_channel_that_nobody_knows_is_told_and_zero():
    counted = PartialStatistics(4)
    counted.add(np.ones((5, 4)), np.tile([True, False, False, True], (5, 1)))
    with pytest.warns(UserWarning, match="channels 1-2 are known in no frame"):
        stats = counted.summary()
    assert stats.q01.tolist() == stats.q99.tolist() == [1, 0, 0, 1]
    with pytest.raises(StatisticsError, match="at least one known number, got none"):
        PartialStatistics(2).summary()
    with pytest.raises(ShapeError, match=r"\(frame, 4\), got \(1, 3\)"):
        counted.add(np.ones((1, 3)), np.ones((1, 3), dtype=bool))


def test_a_known_nan_is_refused():
    with pytest.raises(StatisticsError, match="NaN or infinity"):
        PartialStatistics(1).add(np.array([[np.nan]]), np.array([[True]]))


class TestOfActions:
    hand = (ActionColumns("hand", seen="seen"),)

    def source(self, seed=0, name="set"):
        rng = np.random.default_rng(seed)
        columns = {"hand": rng.normal(size=(60, 2)), "seen": (rng.random((60, 1)) < 0.4).astype(float)}
        return MemorySource([MemoryEpisode(columns=columns)], name=name)

    def test_unknown_frames_do_not_count(self):
        source = self.source()
        stats = action_statistics(RobotReader(source, embodiment="hand", actions=self.hand))
        exact = source.column(0, "hand")[source.column(0, "seen")[:, 0] != 0]
        assert torch.equal(stats.q01, QuantileStats.from_frames(exact.astype(np.float32)).q01)
        assert stats.count == len(exact)

    def test_a_set_that_knows_all_joins_one_that_does_not(self):
        partly = RobotReader(self.source(), embodiment="hand", actions=self.hand)
        whole = RobotReader(self.source(1), embodiment="hand", actions=[ActionColumns("hand")])
        (stats,) = merged_action_statistics([ActionPart(open=lambda: whole), ActionPart(open=lambda: partly)]).values()
        some = partly.source.column(0, "hand")[partly.source.column(0, "seen")[:, 0] != 0]
        exact = QuantileStats.from_frames(np.concatenate([whole.source.column(0, "hand"), some]).astype(np.float32))
        assert torch.equal(stats.q99, exact.q99)
