import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from vla_kit.actions import EigengraspBasis, joint_angles_between, mirror_fingers
from vla_kit.data.eigengrasp_file import load_eigengrasps, save_eigengrasps
from vla_kit.errors import CheckpointError, DataError, SettingError, ShapeError


def orthonormal(seed=0):
    return torch.linalg.qr(torch.randn(45, 45, generator=torch.Generator().manual_seed(seed)).double())[0].mT


def test_weights_are_projections_and_decoding_is_the_nearest_pose():
    directions, mean = orthonormal(), torch.linspace(-1, 1, 45)
    basis = EigengraspBasis(mean, directions[:10].float())
    poses = torch.randn(8, 45, generator=torch.Generator().manual_seed(1))
    weights = basis.encode(poses)
    expected = (poses.double() - mean.double()) @ directions[:10].mT
    assert (weights.double() - expected).abs().max() < 1e-5
    nearest = expected @ directions[:10] + mean
    assert (basis.decode(weights).double() - nearest).abs().max() < 1e-5
    assert (basis.encode(basis.decode(weights)) - weights).abs().max() < 1e-5


def test_all_directions_lose_nothing():
    basis = EigengraspBasis(torch.zeros(45), orthonormal().float())
    poses = 0.5 * torch.randn(4, 45, generator=torch.Generator().manual_seed(2))
    assert basis.reconstruction_error(poses).max() < 1e-3


def test_reconstruction_error_is_the_angle_of_each_joint():
    """A pose that the basis cannot reach at all: what is lost is the whole angle of the joint."""
    basis = EigengraspBasis(torch.zeros(45), torch.eye(45)[:10])
    pose = torch.zeros(2, 45)
    pose[:, 44] = torch.tensor([0.2, 0.4])
    pose[:, 0] = 0.7  # within reach
    error = basis.reconstruction_error(pose)
    assert error[14].item() == pytest.approx(np.degrees(0.3), abs=1e-3)
    assert error[:14].abs().max() < 1e-4


def test_angles_between_poses_are_scipys():
    one, other = (torch.randn(3, 45, generator=torch.Generator().manual_seed(seed)).double() for seed in (3, 4))
    expected = [
        np.degrees((Rotation.from_rotvec(a).inv() * Rotation.from_rotvec(b)).magnitude())
        for a, b in zip(one.reshape(-1, 3).numpy(), other.reshape(-1, 3).numpy(), strict=True)
    ]
    assert np.abs(joint_angles_between(one, other).flatten().numpy() - expected).max() < 1e-6


def test_file_and_state_dict_carry_it(tmp_path):
    basis = EigengraspBasis(torch.linspace(0, 1, 45), orthonormal()[:10].float())
    save_eigengrasps(basis, tmp_path / "basis.safetensors")
    back = load_eigengrasps(tmp_path / "basis.safetensors")
    assert torch.equal(back.mean, basis.mean)
    assert torch.equal(back.directions, basis.directions)
    other = EigengraspBasis(torch.zeros(45), torch.eye(45)[:10])
    other.load_state_dict(basis.state_dict())
    assert torch.equal(other.directions, basis.directions)


def test_manos_left_hand_becomes_a_right_one():
    components, mean = orthonormal(7), torch.linspace(-0.2, 0.3, 45)
    left = EigengraspBasis.from_mano(components.numpy(), mean.numpy(), side="left", count=15)
    weights = torch.randn(5, 15, generator=torch.Generator().manual_seed(5))
    of_mano = (weights.double() @ components[:15] + mean).float()  # a left hand's pose, as MANO would write it
    assert (left.decode(weights) - mirror_fingers(of_mano)).abs().max() < 1e-5
    assert EigengraspBasis.from_mano(components, mean).count == 10


def test_a_pickle_is_not_opened(tmp_path):
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(b"\x80\x04cos\nsystem\n(S'touch opened'\ntR.")
    with pytest.raises(CheckpointError, match=r"path must be a file of save_eigengrasps, got .*MANO_RIGHT.pkl"):
        load_eigengrasps(path)
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize(
    ("mean", "directions", "error", "text"),
    [
        (torch.zeros(44), torch.eye(45)[:10], ShapeError, r"got \(44,\) and \(10, 45\)"),
        (torch.zeros(45), torch.zeros(0, 45), ShapeError, "directions must be 1 to 45, got 0"),
        (torch.zeros(45), 2 * torch.eye(45)[:10], DataError, "orthonormal to 1e-4, got products off by 3"),
        (torch.full((45,), torch.nan), torch.eye(45)[:10], DataError, "finite, got NaN or infinity"),
    ],
)
def test_what_is_no_basis_is_refused(mean, directions, error, text, shape_hook_off):
    with pytest.raises(error, match=text):
        EigengraspBasis(mean, directions)


def test_a_hand_has_two_sides(shape_hook_off):
    with pytest.raises(SettingError, match="side must be 'left' or 'right'"):
        EigengraspBasis.from_mano(torch.eye(45), torch.zeros(45), side="both")
