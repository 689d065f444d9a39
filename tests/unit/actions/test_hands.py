import pytest
import torch

from vla_kit.actions import (
    ActionRepresentation,
    EigengraspBasis,
    decode_hands,
    encode_hands,
    from_matrix,
    hand_channels,
    mirror_fingers,
    mirror_hand_mask,
    mirror_hands,
    mirror_pose,
    to_matrix,
)
from vla_kit.embodiment import preset
from vla_kit.errors import SettingError, ShapeError


def poses(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pose = torch.eye(4, dtype=torch.float64).repeat(count, 2, 1, 1)
    pose[..., :3, :3] = to_matrix(torch.randn(count, 2, 3, generator=generator, dtype=torch.float64), "axis_angle")
    pose[..., :3, 3] = torch.randn(count, 2, 3, generator=generator, dtype=torch.float64)
    return pose


def basis(seed=0):
    matrix = torch.randn(45, 45, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return EigengraspBasis(torch.linspace(-0.3, 0.4, 45), torch.linalg.qr(matrix)[0][:10].float())


def test_channels_are_those_of_the_preset(shape_hook_off):
    names = preset("human_hands").action_space.names
    assert len(names) == 32
    for side in ("left", "right"):
        for part, word in (("position", "wrist_position"), ("rotation", "wrist_rotation"), ("grasp", "finger")):
            found = names[hand_channels(side, part)]
            assert found == tuple(f"{side}_{word}_{index}" for index in range(len(found)))
    assert preset("human_hands_camera").action_space == preset("human_hands").action_space
    with pytest.raises(SettingError, match="side must be one of"):
        hand_channels("middle")


def test_wrists_come_back_and_so_do_weights():
    wrists, start, fitted = poses(7), poses(1, seed=1)[0], basis()
    weights = torch.randn(7, 2, 10, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    fingers = fitted.decode(weights)
    actions = encode_hands(wrists, fingers, start=start, basis=fitted)
    assert actions.shape == (7, 32)
    back, bent = decode_hands(actions, start=start, basis=fitted)
    assert (back - wrists).abs().max() < 1e-12
    assert (bent - fingers).abs().max() < 1e-6  # the basis is orthonormal to float32
    inverse = torch.linalg.inv(start)[None] @ wrists  # homogeneous matrices, an independent way
    for side in (0, 1):
        block = actions[:, 16 * side : 16 * side + 16]
        assert (block[:, :3] - inverse[:, side, :3, 3]).abs().max() < 1e-12
        assert (to_matrix(block[:, 3:6], "axis_angle") - inverse[:, side, :3, :3]).abs().max() < 1e-12
        assert (block[:, 6:] - weights[:, side]).abs().max() < 1e-6


def test_the_first_frame_is_zero_relative_to_the_wrist():
    wrists = poses(1)
    actions = encode_hands(wrists, torch.zeros(1, 2, 45).double(), start=wrists[0], basis=basis())
    for side in ("left", "right"):
        moved = torch.cat([actions[:, hand_channels(side, part)] for part in ("position", "rotation")], dim=1)
        assert moved.abs().max() < 1e-12


def test_it_is_the_displacement_of_a_body_that_other_robots_use_too():
    wrists, start = poses(5), poses(1, seed=4)[0]
    actions = encode_hands(wrists, torch.zeros(5, 2, 45).double(), start=start, basis=basis())

    def flat(pose):
        return torch.cat([pose[..., :3, 3], pose[..., :3, :3].flatten(-2)], dim=-1)

    maths = ActionRepresentation(kind="delta_chunk", rotation="matrix", output="axis_angle", frame="body")
    assert (maths.encode(flat(wrists[:, 1]), flat(start[1])) - actions[:, 16:22]).abs().max() < 1e-12


@pytest.mark.parametrize("relative_to", ["wrist", "camera"])
def test_mirrored_actions_are_the_actions_of_the_mirrored_scene(relative_to):
    wrists, camera, fitted = poses(6), poses(1, seed=5)[0, :1], basis()
    fingers = 0.3 * torch.randn(6, 2, 45, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    start = wrists[0] if relative_to == "wrist" else camera.expand(2, 4, 4)
    actions = encode_hands(wrists, fingers, start=start, basis=fitted)
    scene = mirror_pose(wrists).flip(1), mirror_pose(start).flip(0)  # the left hand's image is a right hand
    expected = encode_hands(scene[0], fingers.flip(1), start=scene[1], basis=fitted)
    assert (mirror_hands(actions) - expected).abs().max() < 1e-12


def test_twice_mirrored_is_nothing():
    actions = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.rand(3, 32, generator=torch.Generator().manual_seed(1)) < 0.5
    fingers = torch.randn(3, 45, generator=torch.Generator().manual_seed(2))
    assert torch.equal(mirror_hands(mirror_hands(actions)), actions)
    assert not torch.equal(mirror_hands(actions), actions)
    assert torch.equal(mirror_hand_mask(mirror_hand_mask(mask)), mask)
    assert torch.equal(mirror_fingers(mirror_fingers(fingers)), fingers)


def test_mirrored_fingers_turn_as_in_a_mirror():
    turn = torch.tensor([0.3, -0.5, 0.7], dtype=torch.float64)
    flip = torch.diag(torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
    expected = from_matrix(flip @ to_matrix(turn, "axis_angle") @ flip, "axis_angle")
    assert (mirror_fingers(turn.repeat(15))[:3] - expected).abs().max() < 1e-12


def test_other_sizes_are_refused(shape_hook_off):
    small = EigengraspBasis(torch.zeros(45), torch.eye(45)[:9])
    with pytest.raises(ShapeError, match="basis must have 10 directions for 32 channels, got 9"):
        encode_hands(poses(1), torch.zeros(1, 2, 45), start=poses(1)[0], basis=small)
    with pytest.raises(ShapeError, match=r"32 channels, 16 per hand, got \(1, 16\)"):
        decode_hands(torch.zeros(1, 16), start=poses(1)[0], basis=basis())
    with pytest.raises(ShapeError, match=r"32 channels, 16 per hand, got \(31,\)"):
        mirror_hands(torch.zeros(31))
