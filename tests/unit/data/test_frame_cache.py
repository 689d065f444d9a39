"""Frames kept on disk equal the decoded ones, whatever happens to the disk."""

import errno
import multiprocessing
import os
import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_kit.data import frame_cache
from vla_kit.data.frame_cache import CachedSource
from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.data.scattered import ScatteredImages
from vla_kit.data.source import CameraInfo, EpisodeSource
from vla_kit.errors import DataError, SettingError

LENGTHS = (5, 3, 9)
CAMERA = "observation.images.top"


class CountingSource(MemorySource):
    """Counts decoded frames, and can lack sizes or frames."""

    decoded = 0
    sizes_known = True
    broken: Sequence[tuple[int, int]] = ()

    @property
    def cameras(self):
        return {key: CameraInfo(video=True) for key in super().cameras} if not self.sizes_known else super().cameras

    def images(self, index, key, indices):
        for frame in indices:
            if (index, frame) in self.broken:
                raise DataError(f"frame {frame} of episode {index} cannot be decoded. Record it again.")
        self.decoded += len(indices)
        return super().images(index, key, indices)


def make_source(*, seed: int = 0, size: tuple[int, int] = (6, 10)) -> CountingSource:
    rng = np.random.default_rng(seed)
    return CountingSource(
        [
            MemoryEpisode(
                columns={"action": rng.normal(size=(length, 2))},
                cameras={key: rng.integers(0, 256, size=(length, *size, 3), dtype=np.uint8) for key in (CAMERA, "a/b")},
                instruction=f"task {length}",
            )
            for length in LENGTHS
        ],
        name="toy",
        rate_hz=10,
    )


def frame_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.frames"))


def place_in_file(frame: int, file: Path, *, frame_bytes: int = 3 * 6 * 10) -> int:
    """Byte at which a frame of the data set begins."""
    return file.stat().st_size - (sum(LENGTHS) - frame) * frame_bytes


def test_it_is_a_source_with_everything_of_the_source(tmp_path):
    source = make_source()
    cached = CachedSource(source, tmp_path / "new" / "folder")
    assert isinstance(cached, EpisodeSource)
    for name in ("name", "location", "rate_hz", "columns", "cameras", "fingerprint"):
        assert getattr(cached, name) == getattr(source, name)
    np.testing.assert_array_equal(cached.lengths, LENGTHS)
    assert cached.episode(1) == source.episode(1)
    assert cached.instruction_at(2, 8) == "task 9"
    np.testing.assert_array_equal(cached.column(2, "action"), source.column(2, "action"))


@pytest.mark.parametrize("sizes_known", [True, False])
def test_frames_are_equal_and_decoded_once(tmp_path, sizes_known):
    source, truth = make_source(), make_source()
    source.sizes_known = sizes_known
    cached = CachedSource(source, tmp_path)
    order = [(2, [8, 0, 0]), (0, [4]), (2, [3, 7]), (1, [2, 1, 0]), (0, [0, 1])]
    for _ in range(2):
        for key in (CAMERA, "a/b"):
            for episode, frames in order:
                seen = cached.images(episode, key, frames)
                assert seen.dtype == torch.uint8
                assert seen.is_contiguous(memory_format=torch.channels_last)
                torch.testing.assert_close(seen, truth.images(episode, key, frames), rtol=0, atol=0)
    assert source.decoded == 2 * sum(LENGTHS) + (0 if sizes_known else 2)

    later = make_source()
    again = pickle.loads(pickle.dumps(CachedSource(later, tmp_path)))
    later.sizes_known = sizes_known
    torch.testing.assert_close(again.images(2, CAMERA, [8]), truth.images(2, CAMERA, [8]), rtol=0, atol=0)
    assert later.decoded == 0


def test_frames_of_several_episodes_come_in_their_order(tmp_path):
    source, truth = make_source(), make_source()
    cached = CachedSource(source, tmp_path)
    assert isinstance(cached, ScatteredImages)
    cached.images(0, CAMERA, [1])
    places = [(2, 8), (0, 4), (2, 8), (1, 0), (0, 1), (2, 3)]
    for _ in range(2):
        seen = cached.images_at(CAMERA, places)
        for image, (episode, frame) in zip(seen, places, strict=True):
            torch.testing.assert_close(image, truth.images(episode, CAMERA, [frame])[0], rtol=0, atol=0)
    assert source.decoded == sum(LENGTHS)
    assert cached.images_at(CAMERA, []) == []
    with pytest.raises(DataError, match=r"frame must lie in \[0, 3\)"):
        cached.images_at(CAMERA, [(0, 0), (1, 3)])


def test_long_episodes_are_filled_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(frame_cache, "_BLOCK_BYTES", 4 * 3 * 6 * 10 + 1)
    source, truth = make_source(), make_source()
    cached = CachedSource(source, tmp_path)
    cached.images(2, CAMERA, [5])
    assert source.decoded == 4
    cached.images(2, CAMERA, [4, 7])
    assert source.decoded == 4
    torch.testing.assert_close(cached.images(2, CAMERA, range(9)), truth.images(2, CAMERA, range(9)), rtol=0, atol=0)
    assert source.decoded == 9


def test_another_data_set_in_the_same_folder_is_another_file(tmp_path):
    first, second = make_source(seed=0), make_source(seed=1)
    for source in (first, second):
        seen = CachedSource(source, tmp_path).images(0, CAMERA, [1])
        torch.testing.assert_close(seen, source.images(0, CAMERA, [1]), rtol=0, atol=0)
    assert len(frame_files(tmp_path)) == 2


@pytest.mark.parametrize("damage", ["bits", "hole", "truncated"])
def test_a_damaged_frame_is_found_and_decoded_again(tmp_path, damage):
    source, truth = make_source(), make_source()
    cached = CachedSource(source, tmp_path)
    for episode, length in enumerate(LENGTHS):
        cached.images(episode, CAMERA, range(length))
    (file,) = frame_files(tmp_path)
    place = place_in_file(sum(LENGTHS) - 1, file)  # the last frame
    if damage == "truncated":
        os.truncate(file, place + 7)
    else:
        with file.open("r+b") as stream:
            stream.seek(place + 50)
            stream.write(bytes(130) if damage == "hole" else b"!")
    wanted = truth.images(2, CAMERA, [8, 7])
    with pytest.warns(UserWarning, match=r"must hold frames as they were written, got frame 16 with other bytes"):
        torch.testing.assert_close(cached.images(2, CAMERA, [8, 7]), wanted, rtol=0, atol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(cached.images(2, CAMERA, [8, 7]), wanted, rtol=0, atol=0)


def test_a_file_of_something_else_is_refused(tmp_path):
    CachedSource(make_source(), tmp_path).images(0, CAMERA, [0])
    (file,) = frame_files(tmp_path)
    file.write_bytes(b"holiday pictures" * 300)
    with pytest.raises(DataError, match=r"top\.frames must begin with .*frames 1.* got b'holiday .* Delete the file"):
        CachedSource(make_source(), tmp_path).images(0, CAMERA, [0])


@pytest.mark.parametrize("left", [b"", bytes(5000)], ids=["empty", "zeros"])
def test_a_file_that_was_begun_by_a_killed_process_is_taken_over(tmp_path, left):
    cached, truth = CachedSource(make_source(), tmp_path), make_source()
    cached.images(0, CAMERA, [0])
    frame_files(tmp_path)[0].write_bytes(left)
    again = CachedSource(make_source(), tmp_path)
    for _ in range(2):
        torch.testing.assert_close(again.images(1, CAMERA, [2]), truth.images(1, CAMERA, [2]), rtol=0, atol=0)


def test_deleting_the_folder_during_a_run_only_costs_time(tmp_path):
    source = make_source()
    cached = CachedSource(source, tmp_path)
    first = cached.images(0, CAMERA, [0])
    frame_files(tmp_path)[0].unlink()
    torch.testing.assert_close(cached.images(0, CAMERA, [0]), first, rtol=0, atol=0)
    assert source.decoded == 2 * LENGTHS[0]


def test_a_broken_frame_does_not_spoil_its_neighbours(tmp_path):
    source, truth = make_source(), make_source()
    source.broken = [(2, 8)]
    cached = CachedSource(source, tmp_path)
    for _ in range(2):
        torch.testing.assert_close(cached.images(2, CAMERA, [1]), truth.images(2, CAMERA, [1]), rtol=0, atol=0)
        with pytest.raises(DataError, match=r"frame 8 of episode 2 cannot be decoded"):
            cached.images(2, CAMERA, [1, 8])


def test_frames_of_several_sizes_are_refused(tmp_path):
    pictures = [np.zeros((2, 4, width, 3), dtype=np.uint8) for width in (4, 6)]
    source = MemorySource([MemoryEpisode(columns={}, cameras={"top": seen}) for seen in pictures])
    cached = CachedSource(source, tmp_path)
    cached.images(0, "top", [0])
    with pytest.raises(DataError, match=r"top must have one image size .* got \(4, 4\) and \(4, 6\) in episode 1"):
        cached.images(1, "top", [0])


def test_wrong_requests_are_answered_by_the_source(tmp_path):
    cached = CachedSource(make_source(), tmp_path)
    with pytest.raises(DataError, match=r"has no camera 'side'"):
        cached.images(0, "side", [0])
    with pytest.raises(DataError, match=r"frame must lie in \[0, 5\)"):
        cached.images(0, CAMERA, [5])
    with pytest.raises(DataError, match=r"frame must lie in \[0, 5\)"):
        cached.images(0, CAMERA, [-1])
    with pytest.raises(DataError, match=r"episode must lie in \[0, 3\)"):
        cached.images(3, CAMERA, [0])
    assert cached.images(0, CAMERA, []).shape == (0, 3, 6, 10)
    assert not frame_files(tmp_path)


def test_a_full_cache_decodes_what_does_not_fit(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, size=(2, 4, 200, 200, 3), dtype=np.uint8)  # 0.48 MB each
    source = CountingSource([MemoryEpisode(columns={}, cameras={CAMERA: seen}) for seen in pictures])
    cached = CachedSource(source, tmp_path, max_gigabytes=0.0007)
    cached.images(0, CAMERA, [0])
    assert source.decoded == 4
    with pytest.warns(UserWarning, match=r"max_gigabytes is 0.0007.* not there yet are decoded every time"):
        cached.images(1, CAMERA, [3, 3, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(
            cached.images(1, CAMERA, [3, 3, 1]), MemorySource.images(source, 1, CAMERA, [3, 3, 1]), rtol=0, atol=0
        )
    assert source.decoded == 4 + 2 + 2
    cached.images(0, CAMERA, [3])
    assert source.decoded == 4 + 2 + 2
    assert sum(path.stat().st_blocks * 512 for path in frame_files(tmp_path)) <= 700_000


def test_a_folder_that_cannot_be_made_is_an_error_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match=r"folder must be on a disk that can be written .* Choose another folder"):
        CachedSource(make_source(), tmp_path / "file")
    with pytest.raises(SettingError, match=r"max_gigabytes must be above 0, got 0"):
        CachedSource(make_source(), tmp_path, max_gigabytes=0)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_cannot_be_written_is_no_fault_of_the_data(tmp_path, monkeypatch, number):
    cached = CachedSource(make_source(), tmp_path)

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(frame_cache.os, "pwrite", fail)
    with pytest.raises(SettingError, match=rf"got .*top\.frames: {os.strerror(number)}\. Choose another folder"):
        cached.images(0, CAMERA, [0])
    monkeypatch.undo()
    torch.testing.assert_close(
        cached.images(0, CAMERA, [0]), make_source().images(0, CAMERA, [0]), rtol=0, atol=0
    )  # nothing half was left


def _fill(folder: Path, seed: int, start) -> None:
    cached = CachedSource(make_source(), folder)
    rng = np.random.default_rng(seed)
    start.wait()
    for _ in range(200):
        episode = int(rng.integers(len(LENGTHS)))
        frames = rng.integers(LENGTHS[episode], size=2).tolist()
        seen = cached.images(episode, CAMERA, frames)
        torch.testing.assert_close(seen, make_source().images(episode, CAMERA, frames), rtol=0, atol=0)


@pytest.mark.filterwarnings("error")
def test_processes_fill_one_folder_at_the_same_time(tmp_path):
    context = multiprocessing.get_context("fork")
    start = context.Barrier(3)
    processes = [context.Process(target=_fill, args=(tmp_path, seed, start)) for seed in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    source = make_source()
    later = CachedSource(source, tmp_path)
    for episode, length in enumerate(LENGTHS):
        truth = make_source().images(episode, CAMERA, range(length))
        torch.testing.assert_close(later.images(episode, CAMERA, range(length)), truth, rtol=0, atol=0)
    assert source.decoded == 0
