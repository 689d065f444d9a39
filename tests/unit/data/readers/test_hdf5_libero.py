"""LIBERO's layout."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from vla_kit.data.readers.hdf5 import open_hdf5
from vla_kit.errors import DataError

DRAWER, STOVE = "KITCHEN_SCENE1_open_the_drawer_demo.hdf5", "turn_on_the_stove_demo.hdf5"


def write_task(path: Path, *, state_size: int, attributes: dict[str, str] | None = None) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs.update(attributes or {})
        for number in (0, 1, 10):
            demo = data.create_group(f"demo_{number}")
            demo["actions"] = np.full((3, 7), number / 10)
            demo["states"] = np.zeros((3, state_size))
            demo["obs/ee_pos"] = np.zeros((3, 3))
            image = np.zeros((3, 4, 6, 3), dtype=np.uint8)
            image[:, 0, :2] = 255  # first stored row, left
            demo["obs/agentview_rgb"] = image


@pytest.fixture
def folder(tmp_path):
    published = {
        "problem_info": json.dumps({"language_instruction": list("turn on the stove")}),
        "env_args": json.dumps({"env_kwargs": {"control_freq": 20}}),
        "macros_image_convention": "opengl",
    }
    write_task(tmp_path / STOVE, state_size=79, attributes=published)
    write_task(tmp_path / DRAWER, state_size=110, attributes={**published, "problem_info": "{}"})
    return tmp_path


def test_a_folder_of_tasks_is_one_data_set(folder):
    source = open_hdf5(folder)
    assert (source.name, source.rate_hz, len(source.lengths)) == (folder.name, 20.0, 6)
    assert source.instruction_at(0, 0) == "open the drawer"
    assert source.instruction_at(5, 0) == "turn on the stove"
    assert source.column(5, "actions")[0, 0] == 1.0


def test_the_simulators_state_differs_in_width_and_is_no_column(folder):
    source = open_hdf5(folder)
    assert sorted(source.columns) == ["actions", "obs/ee_pos"]
    with pytest.raises(DataError, match=r"states is no column: it has 110 numbers per frame in some files and 79 in"):
        source.column(0, "states")
    assert open_hdf5(folder / STOVE).columns["states"].size == 79


def test_images_are_turned_upright_and_not_mirrored(folder):
    picture = open_hdf5(folder).images(0, "obs/agentview_rgb", [1])[0, 0]
    assert picture[-1].tolist() == [255, 255, 0, 0, 0, 0]
    assert picture[:-1].max() == 0


@pytest.mark.parametrize(("convention", "row"), [("opengl", -1), ("opencv", 0)])
def test_the_files_say_which_way_up_they_are(folder, convention, row):
    with h5py.File(folder / STOVE, "r+") as file:
        file["data"].attrs["macros_image_convention"] = convention
    assert open_hdf5(folder / STOVE).images(0, "obs/agentview_rgb", [1])[0, 0, row, 0] == 255


def test_unknown_image_convention(folder):
    with h5py.File(folder / STOVE, "r+") as file:
        file["data"].attrs["macros_image_convention"] = "vulkan"
    with pytest.raises(DataError, match=r"macros_image_convention must be 'opengl' or 'opencv', got 'vulkan'"):
        open_hdf5(folder / STOVE)


def test_regenerated_files_without_attributes(tmp_path):
    write_task(tmp_path / DRAWER, state_size=5)
    source = open_hdf5(tmp_path)
    assert (source.instruction_at(0, 0), source.rate_hz) == ("open the drawer", None)
    assert source.images(0, "obs/agentview_rgb", [0])[0, 0, -1, 0] == 255
