import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from vla_kit.actions import (
    FINGER_JOINTS,
    HAND_POINTS,
    REST_BONES,
    from_matrix,
    hand_points,
    joint_angles_between,
    mirror_pose,
    retarget_points,
    rotation_angle,
    to_matrix,
)
from vla_kit.errors import SettingError, ShapeError


def random_hands(count, spread=0.4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    wrist = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    wrist[:, :3, :3] = to_matrix(2 * torch.randn(count, 3, generator=generator, dtype=torch.float64), "axis_angle")
    wrist[:, :3, 3] = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return wrist, spread * torch.randn(count, 45, generator=generator, dtype=torch.float64)


def test_points_are_those_of_a_chain_of_rotations_by_scipy():
    wrist, fingers = random_hands(1)
    points = hand_points(wrist, fingers)[0].numpy()
    base = Rotation.from_matrix(wrist[0, :3, :3].numpy())
    for finger, bones in REST_BONES.items():
        place, turn = wrist[0, :3, 3].numpy() + base.apply(np.array(bones[0]) / 1000), base
        assert np.abs(points[HAND_POINTS.index(f"{finger}_1")] - place).max() < 1e-12
        for joint, bone in zip((1, 2, 3), bones[1:], strict=True):
            row = FINGER_JOINTS.index(f"{finger}_{joint}")
            turn = turn * Rotation.from_rotvec(fingers[0, 3 * row : 3 * row + 3].numpy())
            place = place + turn.apply(np.array(bone) / 1000)
            end = f"{finger}_{joint + 1}" if joint < 3 else f"{finger}_tip"
            assert np.abs(points[HAND_POINTS.index(end)] - place).max() < 1e-12


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_hand_without_twist_comes_back_exactly(side):
    wrist, random = random_hands(50)
    _, fingers = retarget_points(hand_points(wrist, random, side=side), side=side)  # these have no twist
    points = hand_points(wrist, fingers, side=side)
    found, bent = retarget_points(points, side=side)
    assert (found - wrist).abs().max() < 1e-9
    assert (bent - fingers).abs().max() < 1e-6
    assert (points - hand_points(wrist, random, side=side)).abs().max() < 1e-9  # directions are kept in any case


def test_hinges_come_back_and_twists_are_lost():
    """Known poses of a synthetic hand: bending of the outer joints is seen, a twist of a bone about itself is not."""
    bone = torch.tensor(REST_BONES["index"][2], dtype=torch.float64)
    axis = torch.linalg.cross(bone, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    bent, twisted = torch.zeros(2, 45, dtype=torch.float64)
    bent[3:6] = 0.9 * axis / axis.norm()
    twisted[3:6] = 0.5 * bone / bone.norm()
    for pose, error in ((bent, 0.0), (twisted, np.degrees(0.5))):
        found = retarget_points(hand_points(torch.eye(4).double(), pose))[1]
        assert joint_angles_between(found, pose)[1].item() == pytest.approx(error, abs=1e-4)


def test_a_larger_hand_has_the_same_pose():
    wrist, fingers = random_hands(5)
    small, large = (
        retarget_points(scale * (hand_points(wrist, fingers) - wrist[:, None, :3, 3])) for scale in (1.0, 1.3)
    )
    assert (small[0] - large[0]).abs().max() < 1e-9
    assert (small[1] - large[1]).abs().max() < 1e-9


def test_left_is_the_mirror_image_of_right():
    wrist, fingers = random_hands(5)
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    right = hand_points(wrist, fingers)
    assert (hand_points(mirror_pose(wrist), fingers, side="left") - right * flip).abs().max() < 1e-12
    (one, bent), (other, same) = retarget_points(right), retarget_points(right * flip, side="left")
    assert (mirror_pose(one) - other).abs().max() < 1e-9
    assert (bent - same).abs().max() < 1e-9


def test_a_lost_point_gives_nan_and_touches_no_other():
    wrist, fingers = random_hands(3)
    points = hand_points(wrist, fingers)
    whole = retarget_points(points)
    points[1, 7] = torch.nan
    broken = retarget_points(points)
    for before, after in zip(whole, broken, strict=True):
        assert torch.equal(before[[0, 2]], after[[0, 2]])
        assert after[1].isnan().all()


def test_a_real_hand(shared_data):
    """Annotated joints of a real episode: points alone give the wrist back; fingers lack what the annotation twists."""
    file = np.load(shared_data / "vitra_hand/ego4d_ep_example.npz")
    joints = torch.from_numpy(file["right/joints_worldspace"])
    turn = torch.from_numpy(file["right/global_orient_worldspace"])
    fingers = from_matrix(torch.from_numpy(file["right/hand_pose"]), "axis_angle").flatten(1)
    pose = torch.eye(4, dtype=torch.float64).repeat(25, 1, 1)
    pose[:, :3, :3], pose[:, :3, 3] = turn, joints[:, 0]
    assert (hand_points(pose, fingers) - joints).norm(dim=-1).max() < 2e-3  # order, axes and chain are MANO's
    wrist, found = retarget_points(joints)
    assert torch.rad2deg(rotation_angle(wrist[:, :3, :3].mT @ turn)).max() < 1
    assert (hand_points(wrist, found) - joints).norm(dim=-1).max() < 2e-3
    assert joint_angles_between(found, fingers)[:, :12].mean() < 10  # index to ring; 7.9 degrees


def test_other_sizes_are_refused(shape_hook_off):
    with pytest.raises(ShapeError, match=r"\(..., 21, 3\), got \(20, 3\)"):
        retarget_points(torch.zeros(20, 3))
    with pytest.raises(SettingError, match="side must be one of"):
        hand_points(torch.eye(4), torch.zeros(45), side="both")
