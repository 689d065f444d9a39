import json
import math

import numpy as np
import pytest
import torch

from vla_kit.actions import QuantileStats
from vla_kit.errors import StatisticsError


def test_hand_computed():
    stats = QuantileStats.from_frames(np.array([[0.0, 5.0], [100.0, 5.0]]))  # quantile p of 0 and 100 is 100 p
    assert stats.q01.tolist() == [1, 5]
    assert stats.q99.tolist() == [99, 5]
    assert stats.minimum.tolist() == [0, 5]
    assert stats.maximum.tolist() == [100, 5]
    assert stats.mean.tolist() == [50, 5]
    assert stats.std.tolist() == [50, 0]
    assert (stats.count, stats.size) == (2, 2)


def test_torch_and_numpy_frames_agree_with_sorting():
    frames = torch.randn(301, 4, generator=torch.Generator().manual_seed(0))
    stats = QuantileStats.from_frames(frames)
    ordered = frames.double().sort(dim=0).values  # 301 frames: quantile 1 % is entry 3, 99 % is entry 297
    assert torch.equal(stats.q01, ordered[3].float())
    assert torch.equal(stats.q99, ordered[297].float())
    assert QuantileStats.from_frames(frames.numpy()).fingerprint == stats.fingerprint


def test_one_frame_is_constant():
    stats = QuantileStats.from_frames(np.ones((1, 3), dtype=np.float32))
    assert torch.equal(stats.q01, stats.q99)
    assert stats.std.tolist() == [0, 0, 0]


def test_json_round_trip_is_exact():
    frames = np.random.default_rng(0).normal(size=(50, 3)) * 0.1
    stats = QuantileStats.from_frames(frames)
    back = QuantileStats.from_dict(json.loads(json.dumps(stats.to_dict())))
    assert set(stats.to_dict()) == {"q01", "q99", "min", "max", "mean", "std", "count"}
    for name in ("q01", "q99", "minimum", "maximum", "mean", "std"):
        assert torch.equal(getattr(stats, name), getattr(back, name))
    assert back.count == 50
    assert back.fingerprint == stats.fingerprint


def test_optional_keys_stay_unknown():
    stats = QuantileStats.from_dict({"q01": [0], "q99": [1]})
    assert (stats.minimum, stats.maximum, stats.mean, stats.std, stats.count) == (None,) * 5
    assert stats.to_dict() == {"q01": [0.0], "q99": [1.0]}


def test_count_as_lerobot_writes_it():
    assert QuantileStats.from_dict({"q01": [0.0], "q99": [1.0], "count": [2096]}).count == 2096


def test_fingerprint_depends_on_the_quantiles_alone():
    plain = QuantileStats.from_dict({"q01": [0.0], "q99": [1.0]})
    assert QuantileStats.from_dict({"q01": [-0.0], "q99": [1.0], "mean": [0.3]}).fingerprint == plain.fingerprint
    assert QuantileStats.from_dict({"q01": [0.0], "q99": [1.5]}).fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        (np.zeros((0, 3)), r"not be empty, got shape \(0, 3\)"),
        (np.zeros(3), r"axes \(frames, size\) and not be empty, got shape \(3,\)"),
        (
            np.array([[0.0, math.nan], [math.inf, 1.0]]),
            r"frames must be finite, got NaN or infinity in channels \[0, 1\]",
        ),
    ],
)
def test_frame_errors(frames, text):
    with pytest.raises(StatisticsError, match=text):
        QuantileStats.from_frames(frames)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"mean": [0.0], "std": [1.0]}, r"entry must hold q01 and q99, got the keys \['mean', 'std'\]"),
        ({"q01": [0.0], "q99": None}, "entry must hold q01 and q99"),
        ({"q01": [1.0, 0.0], "q99": [0.0, 1.0]}, r"q99 must be at least q01, got less in channels \[0\]"),
        ({"q01": [0.0], "q99": [1.0, 2.0]}, r"q99 must have the shape of q01 \(1,\), got \(2,\)"),
        ({"q01": [0.0], "q99": [1.0], "std": [1.0, 2.0]}, "std must have the shape of q01"),
        ({"q01": [0.0], "q99": [math.nan]}, r"q99 must be finite, got NaN or infinity in channels \[0\]"),
        ({"q01": [[0.0]], "q99": [[1.0]]}, r"q01 must have one axis \(size,\), got shape \(1, 1\)"),
        ({"q01": [], "q99": []}, "q01 must hold at least one channel"),
        ({"q01": [0.0], "q99": [1.0], "count": -1}, "count must be at least 0, got -1"),
    ],
)
@pytest.mark.usefixtures("shape_hook_off")
def test_entry_errors(entry, text):
    with pytest.raises(StatisticsError, match=text):
        QuantileStats.from_dict(entry)
