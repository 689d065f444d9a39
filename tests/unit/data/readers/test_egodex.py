import pickle
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from vla_kit.actions import hand_points, joint_angles_between, retarget_points, rotation_angle
from vla_kit.data import EpisodeSource
from vla_kit.data.readers.egodex import open_egodex, read_egodex
from vla_kit.data.readers.open import open_source
from vla_kit.errors import DataError, SettingError

sys.path.insert(0, str(Path(__file__).parents[1]))
from hand_files import write_egodex


def test_layout_is_recognised_and_read(tmp_path):
    write_egodex(tmp_path / "set/stack_cups/10.hdf5", llm_description="Stack the cups.")
    write_egodex(
        tmp_path / "set/stack_cups/9.hdf5",
        steps=4,
        llm_description="first",
        llm_description2="Stack two cups.",
        which_llm_description="2",
    )
    source = open_source(tmp_path / "set")
    assert isinstance(source, EpisodeSource)
    assert source.lengths.tolist() == [4, 6]  # in the order of numbers
    assert [source.instruction_at(index, 0) for index in (0, 1)] == ["Stack two cups.", "Stack the cups."]
    assert source.rate_hz == 30
    assert source.cameras == {}
    assert source.columns["left.wrist"].size == 12
    again = pickle.loads(pickle.dumps(source))
    assert np.array_equal(again.column(1, "right.fingers"), source.column(1, "right.fingers"))
    assert again.fingerprint == source.fingerprint


def test_wrists_are_exact_and_fingers_are_the_retargeted_ones(tmp_path):
    truth = write_egodex(tmp_path / "0.hdf5")
    record = read_egodex(tmp_path / "0.hdf5")
    assert np.abs(record.camera - truth["camera"]).max() < 1e-12
    for side in ("left", "right"):
        track = getattr(record, side)
        turned = rotation_angle(
            torch.from_numpy(track.wrist[:, :3, :3].swapaxes(1, 2) @ truth[f"{side}.wrist"][:, :3, :3])
        )
        assert turned.max() < 1e-6  # of a hand with the proportions of REST_BONES
        assert np.abs(track.wrist[:, :3, 3] - truth[f"{side}.wrist"][:, :3, 3]).max() < 1e-12
        fingers = torch.from_numpy(track.fingers)
        points = [
            hand_points(torch.from_numpy(wrist), pose, side=side)
            for wrist, pose in (
                (track.wrist, fingers),
                (truth[f"{side}.wrist"], torch.from_numpy(truth[f"{side}.fingers"])),
            )
        ]
        assert (points[0] - points[1]).abs().max() < 1e-9  # every bone points where it did
        assert torch.allclose(retarget_points(points[1], side=side)[1], fingers, atol=1e-6)
        assert 1 < joint_angles_between(fingers, torch.from_numpy(truth[f"{side}.fingers"])).mean() < 15  # the twist


def test_hands_without_confidence_or_with_nan_are_lost(tmp_path):
    write_egodex(tmp_path / "0.hdf5")
    with h5py.File(tmp_path / "0.hdf5", "a") as file:
        file["confidences/leftHand"][:2] = [0.2, np.nan]
        file["transforms/rightThumbTip"][3, 0, 3] = np.nan
    record = read_egodex(tmp_path / "0.hdf5")
    assert record.left.seen.tolist() == [False, False, True, True, True, True]
    assert record.right.seen.tolist() == [True, True, True, False, True, True]
    assert np.isfinite(record.right.fingers).all()
    assert read_egodex(tmp_path / "0.hdf5", confidence=0.1).left.seen.tolist() == [True, False] + [True] * 4


def test_broken_files_are_refused(tmp_path):
    write_egodex(tmp_path / "0.hdf5")
    with pytest.raises(SettingError, match=r"confidence must lie in \[0, 1\], got 2"):
        open_egodex(tmp_path, confidence=2)
    source = open_egodex(tmp_path)
    with h5py.File(tmp_path / "0.hdf5", "a") as file:
        del file["transforms/leftThumbTip"]
    source = open_egodex(tmp_path)
    with pytest.raises(DataError, match=r"0\.hdf5: transforms/leftThumbTip must be in the file"):
        source.column(0, "left.wrist")
    with pytest.raises(DataError, match=r"frame must lie in \[0, 6\)"):
        source.instruction_at(0, 6)
