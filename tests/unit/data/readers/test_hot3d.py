import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_kit.actions import EigengraspBasis, mirror_fingers
from vla_kit.data import RobotReader, hand_columns
from vla_kit.data.eigengrasp_file import save_eigengrasps
from vla_kit.data.readers.hot3d import open_hot3d
from vla_kit.data.readers.open import open_source
from vla_kit.errors import DataError, SettingError

sys.path.insert(0, str(Path(__file__).parents[1]))
from hand_files import write_hot3d


def orthonormal(seed):
    return torch.linalg.qr(torch.randn(45, 45, generator=torch.Generator().manual_seed(seed)).double())[0]


@pytest.fixture
def mano(tmp_path):
    """A stand-in for the PCA of a user's MANO: any orthonormal directions."""
    for side, seed in (("right", 0), ("left", 1)):
        model = EigengraspBasis.from_mano(orthonormal(seed), torch.linspace(-0.1, 0.2, 45), side=side, count=15)
        save_eigengrasps(model, tmp_path / f"{side}.safetensors")
    return {"mano": str(tmp_path / "right.safetensors"), "mano_left": str(tmp_path / "left.safetensors")}


def test_records_become_wrists_and_fingers(tmp_path, mano):
    truth = write_hot3d(tmp_path / "set/P0001", absent={"0": {2, 5}})
    source = open_source(tmp_path / "set", options=mano)
    assert source.lengths.tolist() == [6]
    assert source.rate_hz == 30.0
    assert source.column(0, "left.seen").flatten().tolist() == [1, 1, 0, 1, 1, 0]
    assert source.instruction_at(0, 0) == ""
    for key, side, seed in (("0", "left", 1), ("1", "right", 0)):
        seen = source.column(0, f"{side}.seen")[:, 0] == 1
        wrist = source.column(0, f"{side}.wrist")[seen]
        assert np.abs(wrist[:, :3] - truth[f"{key}.wrist"][seen, :3, 3]).max() < 1e-12
        assert np.abs(wrist[:, 3:].reshape(-1, 3, 3) - truth[f"{key}.wrist"][seen, :3, :3]).max() < 1e-9
        pose = torch.from_numpy(truth[f"{key}.weights"]) @ orthonormal(seed)[:15] + torch.linspace(-0.1, 0.2, 45)
        pose = mirror_fingers(pose) if side == "left" else pose
        assert np.abs(source.column(0, f"{side}.fingers")[seen] - pose[torch.from_numpy(seen)].numpy()).max() < 1e-5
    camera = source.column(0, "camera")
    assert np.abs(camera[:, :3] - truth["camera"][:, :3, 3]).max() < 1e-12


def test_place_of_manos_root_does_not_matter_to_displacements(tmp_path, mano):
    """What HOT3D calls the translation is off by one vector in the world; displacements of a wrist do not see it."""
    write_hot3d(tmp_path / "a/P1")
    write_hot3d(tmp_path / "b/P1")
    path = tmp_path / "b/P1/mano_hand_pose_trajectory.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        for hand in line["hand_poses"].values():
            hand["wrist_xform"]["t_xyz"] = np.add(hand["wrist_xform"]["t_xyz"], [0.1, 0.01, -0.02]).tolist()
    path.write_text("\n".join(map(json.dumps, lines)))
    chunks = [
        RobotReader(
            open_hot3d(tmp_path / one, basis=mano["mano"], **mano),
            embodiment="human_hands",
            actions=hand_columns()[::2],
        ).chunk(0, 0, 5)
        for one in "ab"
    ]
    assert torch.allclose(*chunks, atol=1e-6)


def test_the_key_says_the_order_of_a_quaternion(tmp_path, mano):
    write_hot3d(tmp_path / "P1")
    path = tmp_path / "P1/mano_hand_pose_trajectory.jsonl"
    before = open_hot3d(tmp_path, **mano).column(0, "right.wrist")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        for hand in line["hand_poses"].values():
            w, x, y, z = hand["wrist_xform"].pop("q_wxyz")
            hand["wrist_xform"]["q_xyzw"] = [x, y, z, w]
    path.write_text("\n".join(map(json.dumps, lines)))
    assert np.abs(open_hot3d(tmp_path, **mano).column(0, "right.wrist") - before).max() < 1e-12
    for line in lines:
        line["hand_poses"]["1"]["wrist_xform"]["q_xyzw"] = [0.9, 0.9, 0.0, 0.0]
    path.write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(DataError, match=r"q_xyzw must have norm 1, got 1.27 in line 1"):
        open_hot3d(tmp_path, **mano).column(0, "right.wrist")


def test_nan_is_a_lost_hand(tmp_path, mano):
    write_hot3d(tmp_path / "P1")
    path = tmp_path / "P1/mano_hand_pose_trajectory.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1]["hand_poses"]["1"]["wrist_xform"]["q_wxyz"][2] = float("nan")
    lines[4]["hand_poses"]["0"]["joint_angles"][2] = float("nan")
    path.write_text("\n".join(map(json.dumps, lines)))
    source = open_hot3d(tmp_path, **mano)
    assert source.column(0, "right.seen").flatten().tolist() == [1, 0, 1, 1, 1, 1]
    assert source.column(0, "left.seen").flatten().tolist() == [1, 1, 1, 1, 0, 1]


def test_without_the_headset_there_is_no_camera(tmp_path, mano):
    write_hot3d(tmp_path / "P1")
    (tmp_path / "P1/headset_trajectory.csv").unlink()
    source = open_hot3d(tmp_path, **mano)
    assert "camera" not in source.columns
    assert source.column(0, "right.fingers").shape == (6, 45)


def test_broken_lines_are_named(tmp_path, mano):
    write_hot3d(tmp_path / "P1")
    path = tmp_path / "P1/mano_hand_pose_trajectory.jsonl"
    path.write_text(path.read_text() + "{\n")
    with pytest.raises(DataError, match=r"a JSON record per line, got '\{' in line 7"):
        open_hot3d(tmp_path, **mano)
    with pytest.raises(DataError, match=r"root must hold mano_hand_pose_trajectory.jsonl, got none"):
        open_hot3d(tmp_path / "nothing", **mano)


def test_mano_has_to_be_given(tmp_path):
    write_hot3d(tmp_path / "P1")
    with pytest.raises(SettingError, match="mano must be given, for fingers are weights of MANO's own PCA"):
        open_source(tmp_path)


def test_mano_must_have_as_many_directions_as_there_are_weights(tmp_path, mano):
    write_hot3d(tmp_path / "P1")
    save_eigengrasps(EigengraspBasis.from_mano(orthonormal(0), torch.zeros(45)), tmp_path / "ten.safetensors")
    with pytest.raises(DataError, match=r"as many numbers as mano has directions \(10\), got 15 in line 1"):
        open_hot3d(tmp_path, mano=str(tmp_path / "ten.safetensors")).column(0, "left.wrist")
