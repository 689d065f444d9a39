"""ALOHA's layout."""

import io
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from vla_kit.data.readers.hdf5 import open_hdf5
from vla_kit.data.readers.hdf5_aloha import open_aloha
from vla_kit.data.source import CameraInfo
from vla_kit.errors import DataError

TRUE_COLOUR = (220, 90, 30)
LENGTH = 3


def as_opencv_writes(rgb_array: np.ndarray) -> bytes:
    """What `cv2.imencode` makes of an RGB array: it takes it for BGR, so the file holds red and blue exchanged."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb_array[..., ::-1])).save(file, format="JPEG", quality=95)
    return file.getvalue()


def write_episode(path: Path, *, compress: bool, number: int = 0) -> None:
    image = np.full((16, 24, 3), TRUE_COLOUR, dtype=np.uint8)
    with h5py.File(path, "w") as file:
        file.attrs["sim"], file.attrs["compress"] = False, compress
        file["action"] = np.full((LENGTH, 14), number, dtype=np.float32)
        for key in ("qpos", "qvel"):
            file[f"observations/{key}"] = np.zeros((LENGTH, 14))
        if compress:
            noisy = np.random.default_rng(number).integers(0, 256, size=image.shape, dtype=np.uint8)
            frames = [as_opencv_writes(image), as_opencv_writes(noisy), as_opencv_writes(image)]
            padded = np.zeros((LENGTH, max(map(len, frames))), dtype=np.uint8)
            for row, data in zip(padded, frames, strict=True):
                row[: len(data)] = np.frombuffer(data, dtype=np.uint8)
            file["observations/images/cam_high"] = padded
            file["compress_len"] = np.array([[len(data) for data in frames]], dtype=np.float32)
        else:
            file["observations/images/cam_high"] = np.stack([image] * LENGTH)


@pytest.fixture(params=[True, False], ids=["compressed", "raw"])
def folder(tmp_path, request):
    for number in (0, 9, 10):
        write_episode(tmp_path / f"episode_{number}.hdf5", compress=request.param, number=number)
    return tmp_path


def test_episodes_columns_and_cameras(folder):
    source = open_hdf5(folder)
    assert [source.column(index, "action")[0, 0] for index in range(3)] == [0, 9, 10]
    assert {key: info.size for key, info in source.columns.items()} == {
        "action": 14,
        "observations/qpos": 14,
        "observations/qvel": 14,
    }
    assert source.cameras == {"observations/images/cam_high": CameraInfo(height=16, width=24)}
    assert source.lengths.tolist() == [LENGTH] * 3
    assert (source.rate_hz, source.instruction_at(0, 0)) == (None, "")


def test_colours_are_true(folder):
    """OpenCV's exchange of red and blue is undone in compressed files and never made in raw ones."""
    frames = open_hdf5(folder).images(0, "observations/images/cam_high", [2, 0])
    assert frames.shape == (2, 3, 16, 24)
    assert np.abs(frames.numpy().mean(axis=(0, 2, 3)) - TRUE_COLOUR).max() < 3


def test_recorders_of_bgr(folder):
    frames = open_aloha(folder, channels="bgr").images(0, "observations/images/cam_high", [0])
    assert np.abs(frames.numpy().mean(axis=(0, 2, 3)) - TRUE_COLOUR[::-1]).max() < 3


def test_images_as_byte_strings_and_varying_arrays(tmp_path):
    write_episode(tmp_path / "episode_0.hdf5", compress=True)
    frame = as_opencv_writes(np.full((16, 24, 3), TRUE_COLOUR, dtype=np.uint8))
    with h5py.File(tmp_path / "episode_0.hdf5", "r+") as file:
        file["observations/images/strings"] = np.array([frame] * LENGTH, dtype=f"S{len(frame) + 10}")
        varying = file.create_dataset("observations/images/varying", LENGTH, dtype=h5py.vlen_dtype(np.uint8))
        varying[:] = [np.frombuffer(frame, dtype=np.uint8)] * LENGTH
    source = open_hdf5(tmp_path)
    expected = source.images(0, "observations/images/cam_high", [0])
    for key in ("observations/images/strings", "observations/images/varying"):
        assert (source.images(0, key, [1]) == expected).all()


def test_sentence_of_a_data_set_or_an_attribute(tmp_path):
    for number, told in enumerate(("stack", "pour")):
        path = tmp_path / f"episode_{number}.hdf5"
        write_episode(path, compress=False)
        with h5py.File(path, "r+") as file:
            if number:
                file.attrs["language_instruction"] = told
            else:
                file["language_raw"] = np.array([told.encode()])
    source = open_hdf5(tmp_path)
    assert [source.instruction_at(index, 0) for index in range(2)] == ["stack", "pour"]


def test_truncated_frame_is_refused_though_zeros_follow(tmp_path):
    path = tmp_path / "episode_0.hdf5"
    write_episode(path, compress=True)
    with h5py.File(path, "r+") as file:
        data = file["observations/images/cam_high"]
        data[1, data.shape[1] // 2 :] = 0
    source = open_hdf5(tmp_path)
    with pytest.raises(DataError, match=r"cam_high \(episode 0\), frame 1 must be a whole image, got a truncated JPEG"):
        source.images(0, "observations/images/cam_high", [1])
    assert source.images(0, "observations/images/cam_high", [0, 2]).shape[0] == 2


def test_one_truncated_episode(folder):
    path = folder / "episode_9.hdf5"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        DataError, match=r"episode_9\.hdf5 must be a readable HDF5 file, got: .*move it out of the data"
    ):
        open_hdf5(folder)


def test_episode_without_qpos(folder):
    with h5py.File(folder / "episode_9.hdf5", "r+") as file:
        del file["observations/qpos"]
    source = open_hdf5(folder)
    with pytest.raises(DataError, match=r"episode_9\.hdf5: observations/qpos \(episode 1\) must be a data set"):
        source.column(1, "observations/qpos")
