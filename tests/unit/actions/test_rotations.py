import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from vla_kit.actions import ROTATION_SIZES, convert_rotation, from_matrix, rotation_defect, to_matrix
from vla_kit.errors import SettingError, ShapeError

FORMS = tuple(ROTATION_SIZES)


def scipy_form(rotation, form):
    if form == "axis_angle":
        return rotation.as_rotvec()
    if form == "euler_xyz":
        return rotation.as_euler("xyz")
    if form.startswith("quaternion"):
        return rotation.as_quat(canonical=True, scalar_first=form.endswith("wxyz"))
    matrix = rotation.as_matrix()
    return matrix.reshape(-1, 9) if form == "matrix" else matrix[:, :, :2].transpose(0, 2, 1).reshape(-1, 6)


@pytest.fixture
def rotations():
    return Rotation.random(200, random_state=0)


@pytest.mark.parametrize("form", FORMS)
def test_agrees_with_scipy_both_ways(rotations, form):
    numbers = torch.from_numpy(scipy_form(rotations, form))
    matrix = torch.from_numpy(rotations.as_matrix())
    torch.testing.assert_close(to_matrix(numbers, form), matrix, atol=1e-12, rtol=0)
    torch.testing.assert_close(from_matrix(matrix, form), numbers, atol=1e-12, rtol=0)


@pytest.mark.parametrize("source", FORMS)
@pytest.mark.parametrize("target", FORMS)
def test_every_form_there_and_back(rotations, source, target):
    numbers = torch.from_numpy(scipy_form(rotations, source))
    there = convert_rotation(numbers, source, target)
    assert there.shape[-1] == ROTATION_SIZES[target]
    torch.testing.assert_close(convert_rotation(there, target, source), numbers, atol=1e-9, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_float32_keeps_its_dtype_and_six_digits(rotations, form):
    numbers = torch.from_numpy(scipy_form(rotations, form)).float()
    matrix = to_matrix(numbers, form)
    assert matrix.dtype == torch.float32
    torch.testing.assert_close(matrix.double(), torch.from_numpy(rotations.as_matrix()), atol=2e-6, rtol=0)


def test_hand_computed_quarter_turns():
    quarter = torch.pi / 2
    torch.testing.assert_close(
        to_matrix(torch.tensor([quarter, 0.0, 0.0]), "euler_xyz"),
        torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
        atol=1e-6,
        rtol=0,
    )
    # roll then yaw about fixed axes: x -> y, y -> z, z -> x
    turn = to_matrix(torch.tensor([quarter, 0.0, quarter]), "euler_xyz")
    torch.testing.assert_close(turn, torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]), atol=1e-6, rtol=0)
    half = 0.5**0.5
    assert from_matrix(turn, "rotation_6d").round().tolist() == [0, 1, 0, 0, 0, 1]
    torch.testing.assert_close(
        convert_rotation(torch.tensor([half, 0.0, 0.0, half]), "quaternion_wxyz", "axis_angle"),
        torch.tensor([0, 0, quarter]),
    )


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("near", [0.0, 1e-12, 1e-9, 1e-7, 1e-5, 1e-3])
def test_gimbal_lock_keeps_the_rotation(sign, near):
    angles = torch.tensor([0.3, sign * (torch.pi / 2 - near), -1.1], dtype=torch.float64)
    matrix = to_matrix(angles, "euler_xyz")
    back = from_matrix(matrix, "euler_xyz")
    torch.testing.assert_close(to_matrix(back, "euler_xyz"), matrix, atol=1e-9, rtol=0)
    if near == 0:
        assert back[2] == 0


def test_both_signs_of_a_quaternion_are_one_rotation():
    quaternion = torch.tensor([0.5, 0.5, 0.5, -0.5])
    torch.testing.assert_close(to_matrix(quaternion, "quaternion_xyzw"), to_matrix(-quaternion, "quaternion_xyzw"))
    assert convert_rotation(quaternion, "quaternion_xyzw", "quaternion_xyzw").tolist() == (-quaternion).tolist()


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-6, torch.pi - 1e-6, torch.pi, torch.pi + 1e-6, 2 * torch.pi, 7.0])
def test_angles_at_the_edges(angle):
    rotation = torch.tensor([0.0, 0.6, 0.8], dtype=torch.float64) * angle
    reference = Rotation.from_rotvec(rotation.numpy()).as_matrix()
    torch.testing.assert_close(to_matrix(rotation, "axis_angle").numpy(), reference, atol=1e-12, rtol=0)
    back = convert_rotation(rotation, "axis_angle", "axis_angle")
    assert back.norm() <= torch.pi + 1e-12
    torch.testing.assert_close(to_matrix(back, "axis_angle").numpy(), reference, atol=1e-12, rtol=0)


@pytest.mark.parametrize("form", ["quaternion_xyzw", "quaternion_wxyz", "rotation_6d", "matrix"])
def test_almost_rotations_become_rotations(rotations, form):
    noise = torch.from_numpy(np.random.default_rng(0).normal(scale=0.05, size=(200, ROTATION_SIZES[form])))
    matrix = to_matrix(torch.from_numpy(scipy_form(rotations, form)) + noise, form)
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3).double().expand(200, 3, 3), atol=1e-12, rtol=0)
    assert (torch.linalg.det(matrix) > 0.999).all()
    assert (matrix - torch.from_numpy(rotations.as_matrix())).abs().max() < 0.5


@pytest.mark.parametrize("form", FORMS)
def test_nan_stays_in_its_row(rotations, form):
    numbers = torch.from_numpy(scipy_form(rotations[:3], form))
    poisoned = numbers.clone()
    poisoned[1] = torch.nan
    for target in FORMS:
        clean, dirty = convert_rotation(numbers, form, target), convert_rotation(poisoned, form, target)
        assert torch.equal(clean[[0, 2]], dirty[[0, 2]])
        assert dirty[1].isnan().all()


def test_defect_tells_rotations_from_other_numbers(rotations):
    for form in FORMS:
        numbers = torch.from_numpy(scipy_form(rotations, form))
        assert rotation_defect(numbers, form).max() < 1e-12
    assert rotation_defect(torch.tensor([0.0, 0.0, 0.0, 2.0]), "quaternion_wxyz") == 1
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0])).flatten()
    assert rotation_defect(mirror, "matrix") == 1
    assert rotation_defect(torch.tensor([1.0, 0, 0, 1.0, 0, 0]), "rotation_6d") == 1


def test_refuses(shape_hook_off):
    with pytest.raises(SettingError, match=r"form must be one of \('axis_angle', .*got 'euler'"):
        to_matrix(torch.zeros(3), "euler")
    with pytest.raises(SettingError, match="form must be one of"):
        from_matrix(torch.eye(3), "euler")
    with pytest.raises(ShapeError, match=r"rotation must have the shape \(..., 4\) as quaternion_xyzw, got \(2, 3\)"):
        to_matrix(torch.zeros(2, 3), "quaternion_xyzw")
