"""Episodes in HDF5 groups: looking, reading, and every broken file there is."""

import multiprocessing
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from vla_kit.data.readers import _hdf5_files as hdf5_files
from vla_kit.data.readers._hdf5_files import HDF5Files, list_hdf5_files
from vla_kit.data.readers._shared_cache import SharedCache
from vla_kit.data.readers.hdf5_source import HDF5Episode, HDF5Source
from vla_kit.data.source import CameraInfo, ColumnInfo, EpisodeSource
from vla_kit.errors import DataError, SettingError

LENGTHS = (4, 6)


@pytest.fixture
def pixels() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size=(length, 5, 7, 3), dtype=np.uint8) for length in LENGTHS]


@pytest.fixture
def path(tmp_path: Path, pixels) -> Path:
    path = tmp_path / "kleine Daten äöü.hdf5"
    with h5py.File(path, "w") as file:
        for index, length in enumerate(LENGTHS):
            group = file.create_group(f"take {index}")
            group["action"] = np.arange(2 * length).reshape(length, 2) / 10
            group["obs/deep/pose"] = np.arange(16 * length, dtype=np.float32).reshape(length, 4, 4)
            group["obs/grip"] = np.arange(length) % 2 == 0
            group.create_dataset("obs/top", data=pixels[index], chunks=(1, 5, 7, 3), fletcher32=True)
            group["obs/depth"] = np.zeros((length, 40, 40), dtype=np.uint16)
            group["calibration"] = np.eye(3)
    return path


def open_takes(path: Path, **keywords: object) -> HDF5Source:
    episodes = [HDF5Episode(path=path, group=f"take {index}", instruction="push") for index in range(2)]
    return HDF5Source(episodes, root=path, **keywords)


def test_finds_columns_and_cameras_by_looking(path):
    source = open_takes(path)
    assert isinstance(source, EpisodeSource)
    assert (source.name, source.location, source.rate_hz) == ("kleine Daten äöü", str(path), None)
    assert source.columns == {
        "action": ColumnInfo(size=2),
        "obs/deep/pose": ColumnInfo(size=16),
        "obs/grip": ColumnInfo(size=1),
    }
    assert source.cameras == {"obs/top": CameraInfo(height=5, width=7)}
    assert source.lengths.tolist() == [4, 6]
    assert source.lengths.dtype == np.int64
    assert source.episode(1).instructions == ("push",)
    assert source.instruction_at(1, 5) == "push"


def test_columns_are_copies_of_what_is_stored(path):
    source = open_takes(path)
    column = source.column(1, "action")
    assert column.dtype == np.float64
    assert np.array_equal(column, np.arange(12).reshape(6, 2) / 10)
    column[:] = 0
    assert source.column(1, "action")[5, 1] == 1.1
    assert source.column(0, "obs/deep/pose")[1].tolist() == list(range(16, 32))
    assert source.column(0, "obs/grip").tolist() == [[True], [False], [True], [False]]


def test_frames_come_in_the_order_asked_for_with_repeats(path, pixels):
    frames = open_takes(path).images(1, "obs/top", [5, 0, 1, 5])
    assert np.array_equal(frames.numpy(), pixels[1][[5, 0, 1, 5]].transpose(0, 3, 1, 2))
    assert frames.is_contiguous()
    assert open_takes(path).images(1, "obs/top", []).shape == (0, 3, 5, 7)


def test_bgr_arrays_become_rgb(path, pixels):
    frames = open_takes(path, channels="bgr").images(0, "obs/top", [2])
    assert np.array_equal(frames[0].numpy(), pixels[0][2, :, :, ::-1].transpose(2, 0, 1))
    with pytest.raises(SettingError, match=r"channels must be 'rgb' or 'bgr', got 'gbr'\."):
        open_takes(path, channels="gbr")


def test_upward_rows_are_turned(path, pixels):
    source = HDF5Source([HDF5Episode(path=path, group="take 0", rows_upward=True)], root=path)
    assert np.array_equal(source.images(0, "obs/top", [3])[0].numpy(), pixels[0][3, ::-1].transpose(2, 0, 1))


def test_reads_only_the_frames_asked_for(path, pixels):
    with h5py.File(path) as file:
        place = file["take 1/obs/top"].id.get_chunk_info(3).byte_offset
    with path.open("r+b") as raw:
        raw.seek(place)
        raw.write(b"damage")
    source = open_takes(path)
    assert np.array_equal(source.images(1, "obs/top", [2, 4])[1].numpy(), pixels[1][4].transpose(2, 0, 1))
    with pytest.raises(DataError, match=r"take 1/obs/top \(episode 1\) must be readable, got: .* The file is damaged"):
        source.images(1, "obs/top", [3])


def test_survives_pickling_and_forking(path):
    source = open_takes(path)
    first = source.column(0, "action")
    copy = pickle.loads(pickle.dumps(source))
    assert np.array_equal(copy.column(0, "action"), first)

    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe()
    child = context.Process(target=lambda: send.send((os.getpid(), source.column(1, "action").tolist())))
    child.start()
    assert receive.poll(60)
    process, values = receive.recv()
    child.join()
    assert process != os.getpid()
    assert values == source.column(1, "action").tolist()


def test_no_more_files_are_open_than_allowed_whatever_the_number_of_sets(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5_files, "_HANDLES", SharedCache(budget=2))
    paths = [tmp_path / f"{index}.h5" for index in range(4)]
    for path in paths:
        with h5py.File(path, "w") as file:
            file["action"] = [1.0]
    sets = [HDF5Files(), HDF5Files()]
    for index, path in enumerate(paths):
        sets[index % 2].open(path)
    assert len(hdf5_files._HANDLES) == 2
    assert sets[1].open(paths[3]) is sets[1].open(paths[3])
    sets[1].close()
    assert len(hdf5_files._HANDLES) == 1
    del sets
    assert len(hdf5_files._HANDLES) == 0


def test_files_are_listed_in_the_order_of_their_numbers(tmp_path):
    for name in ("b/episode_10.hdf5", "b/episode_9.hdf5", "a.h5", "b/._episode_9.hdf5", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in list_hdf5_files(tmp_path)]
    assert found == ["a.h5", "b/episode_9.hdf5", "b/episode_10.hdf5"]


def test_fingerprint_follows_content_and_not_place(path, tmp_path):
    fingerprint = open_takes(path).fingerprint
    moved = tmp_path / "moved.hdf5"
    moved.write_bytes(path.read_bytes())
    assert open_takes(moved).fingerprint == fingerprint
    with h5py.File(moved, "r+") as file:
        file["take 1/action"][2, 1] = -1
    assert open_takes(moved).fingerprint != fingerprint


def test_read_only_folder(path):
    before = sorted(path.parent.iterdir())
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        source = open_takes(path)
        source.column(0, "action")
        assert source.fingerprint
        assert sorted(path.parent.iterdir()) == before
    finally:
        path.parent.chmod(0o755)


@pytest.mark.parametrize("key", ["act", "obs/top", "obs/depth", "calibration"])
def test_unknown_column(path, key):
    reason = {
        "obs/depth": r"obs/depth is no column: it holds uint16 of the shape \(4, 40, 40\)",
        "calibration": r"calibration is no column: its shape \(3, 3\) has no row for each of the 4 frames",
    }.get(key, rf"has no column '{key}'\.( Did you mean 'action'\?)?")
    with pytest.raises(DataError, match=rf"{reason}.*There are \['action', 'obs/deep/pose', 'obs/grip'\]\."):
        open_takes(path).column(0, key)


def test_unknown_camera_episode_and_frame(path):
    source = open_takes(path)
    with pytest.raises(DataError, match=r"has no camera 'action'\. There are \['obs/top'\]\."):
        source.images(0, "action", [0])
    for read in (source.episode, lambda index: source.column(index, "action")):
        with pytest.raises(DataError, match=r"index must be an episode of .* in \[0, 2\), got 2\."):
            read(2)
    for frame in (-1, 4):
        with pytest.raises(DataError, match=rf"frame must lie in \[0, 4\) in episode 0 of .*, got {frame}\."):
            source.images(0, "obs/top", [0, frame])
        with pytest.raises(DataError, match=rf"got {frame}\."):
            source.instruction_at(0, frame)


def edit(path: Path, key: str, values: object) -> None:
    with h5py.File(path, "r+") as file:
        del file[key]
        if values is not None:
            file[key] = values


def test_ragged_column_and_camera(path):
    edit(path, "take 1/obs/grip", np.zeros(5))
    edit(path, "take 1/obs/top", np.zeros((5, 5, 7, 3), dtype=np.uint8))
    source = open_takes(path)
    for read in (lambda: source.column(1, "obs/grip"), lambda: source.images(1, "obs/top", [0])):
        with pytest.raises(DataError, match=r"\(episode 1\) must have a row for each of the 6 frames, got the shape"):
            read()
    assert source.column(0, "obs/grip").shape == (4, 1)


def test_missing_column_in_one_episode(path):
    edit(path, "take 1/obs/grip", None)
    with pytest.raises(DataError, match=r"take 1/obs/grip \(episode 1\) must be a data set, but the file has only"):
        open_takes(path).column(1, "obs/grip")


def test_missing_actions_in_one_episode(path):
    edit(path, "take 1/action", None)
    with pytest.raises(DataError, match=r"take 1/action \(episode 1\) must be a data set, but the episode has only"):
        open_takes(path)


def test_missing_group_and_no_episodes(path):
    with pytest.raises(DataError, match=r"must hold the group 'take 9', got \['take 0', 'take 1'\]\."):
        HDF5Source([HDF5Episode(path=path, group="take 9")], root=path)
    with pytest.raises(DataError, match="must hold at least one episode, got none"):
        HDF5Source([], root=path)


def test_another_width_in_one_episode(path):
    edit(path, "take 1/action", np.zeros((6, 3)))
    with pytest.raises(DataError, match=r"must have 2 numbers per frame, as elsewhere in the data set, got 3\."):
        open_takes(path).column(1, "action")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none(path, value):
    with h5py.File(path, "r+") as file:
        file["take 1/action"][4, 1] = value
    with pytest.raises(
        DataError, match=rf"take 1/action \(episode 1\) must be finite, got {value} in frame 4, channel"
    ):
        open_takes(path).column(1, "action")


def test_empty_episode_is_listed_and_refused_when_read(path):
    edit(path, "take 1/action", np.zeros((0, 2)))
    source = open_takes(path)
    assert source.lengths.tolist() == [4, 0]
    edit(path, "take 0/action", np.zeros((0, 2)))
    with pytest.raises(DataError, match="must hold frames, got 2 empty episodes"):
        open_takes(path)


def test_empty_episode_cannot_be_read(path):
    for key in ("action", "obs/grip"):
        edit(path, f"take 0/{key}", np.zeros((0, 2)))
    source = open_takes(path)
    assert source.columns["action"].size == 2
    with pytest.raises(DataError, match=r"take 0/action \(episode 0\) must have at least one frame, got none\."):
        source.column(0, "action")


@pytest.mark.parametrize("keep", [0.6, 0.0])
def test_truncated_file(path, keep):
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(DataError, match=r"äöü\.hdf5 must be a readable HDF5 file, got: .* truncated"):
        open_takes(path)


def test_file_that_vanishes(path):
    source = open_takes(path)
    path.unlink()
    with pytest.raises(DataError, match="must be a readable HDF5 file"):
        source.column(0, "action")
    with pytest.raises(DataError, match="root must be an HDF5 file or a folder of them"):
        list_hdf5_files(path.parent)
