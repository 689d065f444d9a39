import numpy as np
import pytest
import torch

from vla_kit.data.video import open_video
from vla_kit.data.video_pyav import PyAVDecoder, PyAVEncoder
from vla_kit.errors import DataError, MissingExtraError, SettingError, ShapeError


def gray_frames(count: int = 40) -> np.ndarray:
    """Frame i is a flat gray of level 5 * i + 20, which survives encoding to a level or two."""
    levels = (5 * np.arange(count) + 20).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, 32, 48, 3)).copy()


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "video.mp4"
    with PyAVEncoder(path, rate_hz=10, height=32, width=48) as encoder:
        encoder.write(gray_frames()[:15])
        encoder.write(gray_frames()[15:])
    return path


@pytest.fixture(params=["pyav", "torchcodec"])
def decoder(request, video):
    try:
        return open_video(video, backend=request.param)
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("indices", [[0], [39], [39, 0], [7, 7, 3], [30, 5, 31], list(range(40)), [0, 25, 26]])
def test_an_index_gives_exactly_that_frame(decoder, indices):
    frames = decoder.frames(indices)
    assert frames.dtype == torch.uint8
    assert frames.shape == (len(indices), 3, 32, 48)
    levels = (frames.float().mean(dim=(1, 2, 3)) - 20) / 5
    assert torch.equal(levels.round().long(), torch.tensor(indices))


def test_repeated_calls_in_any_order_agree(decoder):
    first = decoder.frames([12])
    decoder.frames([38])
    assert torch.equal(decoder.frames([12]), first)
    assert len(decoder) == 40


def test_colours_survive_encoding(tmp_path):
    colours = np.array([[200, 30, 40], [20, 180, 60], [50, 70, 210]], dtype=np.uint8)
    frames = np.broadcast_to(colours[:, None, None, :], (3, 16, 16, 3)).copy()
    with PyAVEncoder(tmp_path / "colours.mp4", rate_hz=12.5, height=16, width=16) as encoder:
        encoder.write(frames)
    decoded = PyAVDecoder(tmp_path / "colours.mp4").frames([0, 1, 2])
    assert np.abs(decoded.permute(0, 2, 3, 1).numpy().astype(int) - frames).max() <= 4


def test_index_outside_the_file(decoder):
    with pytest.raises(DataError, match=r"indices must lie in \[0, 40\) in .*video.mp4, got 40"):
        decoder.frames([3, 40])


def test_truncated_file(video):
    video.write_bytes(video.read_bytes()[:300])
    with pytest.raises(DataError, match=r"path must be a readable video, got .*video.mp4"):
        open_video(video, backend="pyav")


def test_file_cut_in_the_middle_fails_where_it_is_cut(video):
    data = video.read_bytes()  # the index lies in front, so the file opens
    video.write_bytes(data[: int(len(data) * 0.8)])
    for backend in ("pyav", "auto"):
        with pytest.raises(DataError, match=r"video\.mp4"):
            open_video(video, backend=backend).frames(range(40))


def test_decoder_works_on_after_an_error(video):
    decoder = PyAVDecoder(video)
    with pytest.raises(DataError):
        decoder.frames([99])
    assert decoder.frames([2]).float().mean().round() == 30


@pytest.mark.parametrize("backend", ["pyav", "torchcodec"])
def test_a_lost_frame_shifts_nothing(tmp_path, backend):
    path = tmp_path / "gap.mp4"
    with PyAVEncoder(path, rate_hz=10, height=32, width=48) as encoder:
        encoder.write(gray_frames()[:15])
        encoder.num_frames = 18  # three frames are missing in time
        encoder.write(gray_frames()[18:])
    shown = [*range(15), *range(18, 40)]
    try:
        decoder = open_video(path, backend=backend)
    except MissingExtraError as error:
        pytest.skip(str(error))
    for indices in ([0], [36], [3, 20, 15], list(range(37))):
        levels = (decoder.frames(indices).float().mean(dim=(1, 2, 3)) - 20) / 5
        assert levels.round().long().tolist() == [shown[index] for index in indices]
    with pytest.raises(DataError, match=r"indices must lie in \[0, 37\)"):
        decoder.frames([37])


@pytest.mark.parametrize("backend", ["pyav", "torchcodec"])
def test_a_rate_that_the_file_does_not_keep(video, backend):
    try:
        decoder = open_video(video, backend=backend, rate_hz=11)
    except MissingExtraError as error:
        pytest.skip(str(error))
    assert len(decoder.frames([0, 4])) == 2  # less than half a frame apart
    with pytest.raises(DataError, match=r"must show 11 frames per second, got frame 8 at 0.800 s instead of 0.727 s"):
        decoder.frames([0, 8])
    assert len(open_video(video, backend=backend, rate_hz=10).frames(range(40))) == 40


def test_unknown_backend(video):
    with pytest.raises(SettingError, match="backend must be one of"):
        open_video(video, backend="opencv")


def test_odd_sizes_and_other_sizes_are_refused(tmp_path):
    with pytest.raises(SettingError, match=r"height and width must be even and at least 2 for a video, got \(31, 48\)"):
        PyAVEncoder(tmp_path / "odd.mp4", rate_hz=10, height=31, width=48)
    with (
        pytest.raises(ShapeError, match="frames must have the shape"),
        PyAVEncoder(tmp_path / "size.mp4", rate_hz=10, height=32, width=48) as encoder,
    ):
        encoder.write(np.zeros((1, 16, 16, 3), dtype=np.uint8))


def test_equal_frames_make_equal_files(tmp_path):
    """With x264's macroblock tree, 1 to 3 files in 100 differed where the heap is busy."""
    rows, columns = np.mgrid[0:32, 0:48]
    frames = np.stack([np.stack([4 * rows, 3 * columns, 2 * rows + columns], -1) + step for step in range(8)])
    draw, busy, found = np.random.default_rng(3), [], set()
    for _ in range(300):
        busy = [*busy[-50:], np.zeros(int(draw.integers(10, 200_000)), dtype=np.uint8)]
        with PyAVEncoder(tmp_path / "a.mp4", rate_hz=10, height=32, width=48) as encoder:
            encoder.write(frames.astype(np.uint8))
        found.add((tmp_path / "a.mp4").read_bytes())
    assert len(found) == 1
