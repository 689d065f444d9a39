import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_kit.actions import EigengraspBasis, decode_hands, encode_hands, hand_channels, joint_angles_between
from vla_kit.data import ChunkDataset, EpisodeSource, RobotReader, hand_columns
from vla_kit.data.eigengrasp_file import save_eigengrasps
from vla_kit.data.hand_grasps import fit_eigengrasps
from vla_kit.data.readers.open import open_source
from vla_kit.data.readers.vitra import open_vitra, read_vitra, vitra_chain_error
from vla_kit.embodiment import preset
from vla_kit.errors import DataError

sys.path.insert(0, str(Path(__file__).parents[1]))
from hand_files import write_vitra


@pytest.fixture
def basis_file(tmp_path):
    rows = torch.linalg.qr(torch.randn(45, 45, generator=torch.Generator().manual_seed(0)))[0][:10]
    save_eigengrasps(EigengraspBasis(torch.zeros(45), rows), tmp_path / "basis.safetensors")
    return str(tmp_path / "basis.safetensors")


def reader_of(source, relative_to="wrist"):
    return RobotReader(source, embodiment="human_hands", actions=hand_columns(relative_to))


class TestRealEpisode:
    @pytest.fixture
    def path(self, shared_data):
        return shared_data / "vitra_hand/ego4d_ep_example.npz"

    def test_camera_and_wrist_chain_closes(self, path):
        assert vitra_chain_error(path) < 1e-6
        record = read_vitra(path)
        file = np.load(path)
        in_camera = np.linalg.inv(record.camera) @ record.right.wrist
        assert np.abs(in_camera[:, :3, :3] - file["right/global_orient_camspace"]).max() < 1e-6
        assert np.abs(in_camera[:, :3, 3] - file["right/joints_camspace"][:, 0]).max() < 1e-6

    def test_translation_of_the_camera_is_not_the_wrist(self, path):
        file = np.load(path)
        away = np.linalg.norm(file["right/transl_camspace"] - file["right/joints_camspace"][:, 0], axis=1)
        assert away.min() > 0.10  # MANO's root joint lies 10 cm from its origin

    def test_folder_opens_as_one_episode_with_words_of_the_hand_that_acts(self, path):
        source = open_source(path.parent, name="vitra")
        assert isinstance(source, EpisodeSource)
        assert source.lengths.tolist() == [25]  # the pictures' annotations beside it are no episodes
        assert source.instruction_at(0, 0) == "Right hand: Pick up the spray bottle."
        assert source.rate_hz is None
        assert source.cameras == {}
        assert source.column(0, "left.seen").sum() == 0
        assert source.column(0, "right.seen").sum() == 25

    @pytest.mark.parametrize("relative_to", ["wrist", "camera"])
    def test_episode_goes_in_and_comes_back_out(self, path, tmp_path, relative_to):
        fitted = fit_eigengrasps([open_vitra(path)])
        save_eigengrasps(fitted, tmp_path / "basis.safetensors")
        source = open_vitra(path, basis=str(tmp_path / "basis.safetensors"))
        reader = reader_of(source, relative_to)
        record = read_vitra(path)
        for frame in (0, 7, 20):
            chunk = reader.chunk(0, frame, 16)
            known = reader.known(0, frame, 16)
            steps = min(16, 24 - frame)
            assert chunk.shape == known.shape == (steps, 32)
            assert known[:, 16:].all()
            assert not known[:, :16].any()
            assert (chunk[:, :16] == 0).all()
            start = record.right.wrist[frame] if relative_to == "wrist" else record.camera[frame]
            starts = torch.from_numpy(np.stack([np.eye(4), start]))
            wrists, fingers = decode_hands(chunk.double(), start=starts, basis=fitted)
            expected = record.right.wrist[frame + 1 : frame + 1 + steps]
            assert np.abs(wrists[:, 1].numpy() - expected).max() < 1e-6
            angles = joint_angles_between(
                fingers[:, 1], torch.from_numpy(record.right.fingers[frame + 1 : frame + 1 + steps])
            )
            assert angles.mean() < 1.0  # ten weights of this one grasp
            exact = torch.stack(
                [torch.zeros(steps, 45), torch.from_numpy(record.right.fingers[frame + 1 :][:steps])], 1
            )
            both = torch.from_numpy(np.stack([np.tile(np.eye(4), (steps, 1, 1)), expected], axis=1))
            by_hand = encode_hands(both, exact.double(), start=starts, basis=fitted)
            assert (by_hand[:, 16:] - chunk[:, 16:]).abs().max() < 1e-6


class TestHandsThatComeAndGo:
    def test_a_hand_that_appears_mid_episode(self, tmp_path, basis_file):
        write_vitra(tmp_path / "set/a.npz", steps=8, seen={"left": [3, 4, 5, 6]})
        source = open_vitra(tmp_path / "set", basis=basis_file)
        left, right = hand_channels("left"), hand_channels("right")
        for relative_to, known_at_0 in (("wrist", []), ("camera", [2, 3, 4, 5])):
            known = reader_of(source, relative_to).known(0, 0, 7)
            assert known[:, right].all()
            assert known[:, hand_channels("left", "position")].all(1).nonzero().flatten().tolist() == known_at_0
            # a grasp needs no first frame
            assert known[:, hand_channels("left", "grasp")].all(1).nonzero().flatten().tolist() == [2, 3, 4, 5]
        seen_at_3 = reader_of(source, "wrist").known(0, 3, 7)
        assert seen_at_3[:, left].all(1).tolist() == [True, True, True, False]

    def test_lost_frames_touch_nothing(self, tmp_path, basis_file):
        """NaN in every frame in which the hand was lost: bit for bit the same actions, and statistics without them."""
        path = tmp_path / "set/a.npz"
        write_vitra(path, steps=8, seen={"left": [0, 1, 2, 5, 6]})
        before = reader_of(open_vitra(path, basis=basis_file), "camera").chunk(0, 0, 7)
        arrays = dict(np.load(path))
        for key in [key for key in arrays if key.startswith("left/") and arrays[key].dtype.kind == "f"]:
            arrays[key][[3, 4, 7]] = np.nan
        np.savez(path, **arrays)
        after = reader_of(open_vitra(path, basis=basis_file), "camera")
        assert torch.equal(after.chunk(0, 0, 7), before)

    def test_a_nan_joint_makes_the_hand_lost(self, tmp_path, basis_file):
        path = tmp_path / "set/a.npz"
        write_vitra(path, steps=6)
        arrays = dict(np.load(path))
        arrays["right/hand_pose"][2, 4] = np.nan
        np.savez(path, **arrays)
        assert open_vitra(path).column(0, "right.seen").flatten().tolist() == [1, 1, 0, 1, 1, 1]

    def test_samples_carry_what_is_known(self, tmp_path, basis_file):
        write_vitra(tmp_path / "set/a.npz", steps=8, seen={"left": [0, 1, 2]})
        reader = reader_of(open_vitra(tmp_path / "set", basis=basis_file))
        sample = ChunkDataset(reader, horizon=10)[0]
        assert sample.size == preset("human_hands").action_space.size
        assert sample.known.shape == (10, 32)
        assert sample.real[:, 0].nonzero().flatten().tolist() == [0, 1]
        assert sample.real[:, 31].nonzero().flatten().tolist() == [0, 1, 2, 3, 4, 5, 6]
        assert sample.instruction == "Left hand: Hold the bowl. Right hand: Stir the soup."
        assert ChunkDataset(reader, horizon=10)[3].instruction == "Right hand: Stir the soup."


class TestBadFiles:
    def test_extrinsics_the_other_way_round(self, tmp_path):
        path = tmp_path / "a.npz"
        write_vitra(path)
        arrays = dict(np.load(path))
        arrays["extrinsics"] = np.linalg.inv(arrays["extrinsics"])
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=r"a.npz: extrinsics must take hands of the world .* camera to world"):
            open_vitra(path).column(0, "right.wrist")

    def test_pickles_are_not_opened(self, tmp_path):
        with (tmp_path / "a.npy").open("wb") as file:
            pickle.dump({"extrinsics": np.eye(4)}, file)
        with pytest.raises(DataError, match=r"root must hold .npz files, got pickles such as .*a.npy"):
            open_vitra(tmp_path)
        np.savez(tmp_path / "b.npz", extrinsics=np.array([{}], dtype=object))
        with pytest.raises(DataError, match=r"readable \.npz without pickles"):
            open_vitra(tmp_path / "b.npz")

    def test_missing_arrays_are_named(self, tmp_path):
        path = tmp_path / "a.npz"
        write_vitra(path)
        arrays = dict(np.load(path))
        del arrays["right/kept_frames"]
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=r"arrays of VITRA's layout, got none for \['right/kept_frames'\]"):
            open_vitra(path)

    def test_weights_need_a_basis(self, tmp_path):
        write_vitra(tmp_path / "a.npz")
        with pytest.raises(DataError, match=r"column must be a column of the data set, got 'left\.grasp'"):
            reader_of(open_vitra(tmp_path / "a.npz"))

    def test_a_video_that_is_missing(self, tmp_path):
        write_vitra(tmp_path / "a.npz")
        with pytest.raises(DataError, match=r"videos must hold the video of a.npz, got none at .*clip.mp4"):
            open_vitra(tmp_path / "a.npz", videos=str(tmp_path))
