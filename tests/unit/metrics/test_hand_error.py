import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from vla_kit.actions import EigengraspBasis, hand_points
from vla_kit.errors import ShapeError
from vla_kit.metrics.hand_error import HandError


def basis():
    rows = torch.linalg.qr(torch.randn(45, 45, generator=torch.Generator().manual_seed(0)))[0][:10]
    return EigengraspBasis(torch.linspace(-0.2, 0.2, 45), rows)


def actions(seed, batch=3, horizon=4, channels=40):
    return 0.3 * torch.randn(batch, horizon, channels, generator=torch.Generator().manual_seed(seed))


def full(channels=40):
    return (torch.arange(channels) < 32).expand(3, 4, channels)


def test_errors_are_those_of_scipy():
    fitted, one, other = basis(), actions(1), actions(2)
    metric = HandError(fitted)
    metric.update(one, other, full())
    found = metric.compute()
    away, turned, bent, points = [], [], [], []
    for first, second in zip(one.flatten(0, 1), other.flatten(0, 1), strict=True):
        for side in (0, 16):
            a, b = first[side : side + 16].double(), second[side : side + 16].double()
            away.append(100 * float((a[:3] - b[:3]).norm()))
            turn = [Rotation.from_rotvec(x[3:6].numpy()) for x in (a, b)]
            turned.append(np.degrees((turn[0].inv() * turn[1]).magnitude()))
            poses = [fitted.decode(x[6:]) for x in (a, b)]
            joints = [Rotation.from_rotvec(pose.reshape(15, 3).numpy()) for pose in poses]
            bent.append(np.degrees((joints[0].inv() * joints[1]).magnitude()).mean())
            placed = []
            for x, r, pose in zip((a, b), turn, poses, strict=True):
                wrist = torch.eye(4).double()
                wrist[:3, :3], wrist[:3, 3] = torch.from_numpy(r.as_matrix()), x[:3]
                placed.append(hand_points(wrist, pose))
            points.append(100 * float((placed[0] - placed[1]).norm(dim=-1).mean()))
    for name, values in (("wrist_cm", away), ("wrist_deg", turned), ("joint_deg", bent), ("joint_cm", points)):
        assert found[name].item() == pytest.approx(np.mean(values), rel=1e-5)
        assert found[f"left/{name}"].item() == pytest.approx(np.mean(values[::2]), rel=1e-5)


def test_unknown_entries_count_nowhere_whatever_they_hold():
    one, other, mask = actions(1), actions(2), full().clone()
    mask[0, 1, 5] = False  # one number of a hand is not known: the hand does not count there
    mask[2, :, 16:32] = False
    whole = HandError(basis())
    whole.update(one, other, mask)
    spoilt = [torch.where(mask, values, torch.nan) for values in (one, other)]
    metric = HandError(basis())
    metric.update(*spoilt, mask)
    for name, value in whole.compute().items():
        assert value.isfinite()
        assert torch.equal(metric.compute()[name], value)
    assert whole.count.flatten().tolist() == [11, 8]


def test_parts_of_two_processes_add_up():
    one, other, mask = actions(1), actions(2), full()
    together, first, second = HandError(basis()), HandError(basis()), HandError(basis())
    together.update(one, other, mask)
    first.update(one[:1], other[:1], mask[:1])
    second.update(one[1:], other[1:], mask[1:])
    assert all(reduction.__name__ == "dim_zero_sum" for reduction in first._reductions.values())
    first.total, first.count = first.total + second.total, first.count + second.count
    for name, value in together.compute().items():
        assert first.compute()[name].item() == pytest.approx(value.item())


def test_a_hand_never_seen_is_nan():
    metric = HandError(basis())
    mask = full().clone()
    mask[..., :16] = False
    metric.update(actions(1), actions(2), mask)
    assert metric.compute()["left/wrist_cm"].isnan()
    assert metric.compute()["wrist_cm"] == metric.compute()["right/wrist_cm"]


def test_shapes_are_checked(shape_hook_off):
    with pytest.raises(ShapeError, match=r"one shape \(batch, horizon, 32 or more\), got \(3, 4, 31\)"):
        HandError(basis()).update(actions(1, channels=31), actions(2, channels=31), full(31))
