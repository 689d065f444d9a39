"""Robomimic's layout."""

import json

import h5py
import numpy as np
import pytest

from vla_kit.data.readers._hdf5_robomimic import open_robomimic
from vla_kit.data.readers.hdf5 import open_hdf5
from vla_kit.errors import DataError


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "can.hdf5"
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Can", "env_kwargs": {"control_freq": 20}})
        for number in (10, 9, 2):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = 3
            demo["actions"] = np.full((3, 7), number / 10)
            demo["obs/robot0_eef_pos"] = np.zeros((3, 3))
            demo["obs/agentview_image"] = np.full((3, 4, 4, 3), number, dtype=np.uint8)
            demo["next_obs/robot0_eef_pos"] = np.zeros((3, 3))
            demo["dones"] = np.array([0, 0, 1])
        file["mask/train"] = np.array([b"demo_2"])
    return path


def test_demonstrations_come_in_the_order_of_their_numbers(path):
    source = open_hdf5(path)
    assert [source.column(index, "actions")[0, 0] for index in range(3)] == [0.2, 0.9, 1.0]
    assert source.images(2, "obs/agentview_image", [0])[0, 0, 0, 0] == 10
    assert sorted(source.columns) == ["actions", "dones", "next_obs/robot0_eef_pos", "obs/robot0_eef_pos"]
    assert (source.rate_hz, source.instruction_at(0, 0), source.episode(0).instructions) == (20.0, "", ())


def test_images_are_upright_already(path):
    with h5py.File(path, "r+") as file:
        file["data/demo_2/obs/agentview_image"][0, 0] = 255
    assert open_hdf5(path).images(0, "obs/agentview_image", [0])[0, :, 0].min() == 255


def test_sentences_of_robocasa_and_of_attributes(path):
    with h5py.File(path, "r+") as file:
        file["data"].attrs["language_instruction"] = "for all"
        file["data/demo_2"].attrs["ep_meta"] = json.dumps({"lang": "close the drawer"})
        file["data/demo_9"].attrs["language_instruction"] = "open it"
    source = open_robomimic(path)
    assert [source.instruction_at(index, 0) for index in range(3)] == ["close the drawer", "open it", "for all"]


def test_a_folder_is_one_data_set_with_one_rate(path):
    other = path.with_name("lift.hdf5")
    other.write_bytes(path.read_bytes())
    source = open_hdf5(path.parent, name="both")
    assert (source.name, len(source.lengths)) == ("both", 6)
    with h5py.File(other, "r+") as file:
        file["data"].attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": 10}})
    with pytest.raises(
        DataError, match=r"control_freq must be the same .* got 20\.0 in can\.hdf5, 10\.0 in lift\.hdf5"
    ):
        open_hdf5(path.parent)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{", "env_args must be JSON"),
        ('{"env_kwargs": {"control_freq": -1}}', "control_freq in env_args must be a pos"),
    ],
)
def test_broken_settings(path, settings, message):
    with h5py.File(path, "r+") as file:
        file["data"].attrs["env_args"] = settings
    with pytest.raises(DataError, match=rf"can\.hdf5: .*{message}"):
        open_hdf5(path)


def test_no_demonstrations(path):
    with h5py.File(path, "r+") as file:
        del file["data"]
        file.create_group("data")
    with pytest.raises(DataError, match=r"must hold demonstrations in 'data', got none"):
        open_hdf5(path)


def test_another_layout(path):
    with h5py.File(path, "w") as file:
        file["trajectory/joints"] = [1.0]
    with pytest.raises(DataError, match=r"must hold a group 'data' \(robomimic, LIBERO\).*got \['trajectory'\]"):
        open_hdf5(path)
    with pytest.raises(DataError, match=r"must hold a group 'data' of demonstrations, got \['trajectory'\]"):
        open_robomimic(path)
