"""Frames of several episodes read together equal those read one by one."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from vla_kit.data.frame_cache import CachedSource
from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.data.readers.lerobot import LeRobotSource
from vla_kit.data.robot_reader import RobotReader
from vla_kit.data.scattered import ScatteredFrames, ScatteredImages, frames_at, images_at
from vla_kit.data.windows import ChunkDataset
from vla_kit.errors import DataError

VIDEO, IMAGE = "observation.images.top", "observation.images.wrist"
PLACES = [(2, 6), (0, 4), (1, 0), (2, 6), (0, 0), (2, 1)]


def memory_source() -> MemorySource:
    rng = np.random.default_rng(0)
    return MemorySource(
        [
            MemoryEpisode(
                columns={"action": rng.normal(size=(length, 2))},
                cameras={VIDEO: rng.integers(0, 256, size=(length, 4, 6, 3), dtype=np.uint8)},
            )
            for length in (5, 1, 7)
        ]
    )


class CountingReader:
    """Has no `frames_at` of its own."""

    def __init__(self, source: MemorySource) -> None:
        self.source, self.calls = source, []

    def frames(self, index, indices):
        self.calls.append((index, list(indices)))
        return {"top": self.source.images(index, VIDEO, indices)}


@pytest.mark.parametrize("key", [VIDEO, IMAGE])
@pytest.mark.parametrize("backend", ["auto", "pyav"])
def test_a_video_set_gives_the_same_frames(write_set, key, backend):
    root, _ = write_set()
    source = LeRobotSource(root, video=backend)
    assert isinstance(source, ScatteredImages)
    for image, (episode, frame) in zip(images_at(source, key, PLACES), PLACES, strict=True):
        torch.testing.assert_close(image, source.images(episode, key, [frame])[0], rtol=0, atol=0)
    assert images_at(source, key, []) == []


def test_a_cached_video_set_gives_the_same_frames(write_set, tmp_path):
    root, _ = write_set("videos and pictures")
    source = LeRobotSource(root)
    views = {"top": VIDEO, "wrist": IMAGE}
    plain = RobotReader(source, embodiment="toy", views=views)
    cached = RobotReader(CachedSource(source, tmp_path / "frames"), embodiment="toy", views=views)
    for _ in range(2):
        for ours, theirs in zip(cached.frames_at(PLACES), plain.frames_at(PLACES), strict=True):
            assert list(ours) == list(theirs) == ["top", "wrist"]
            for tag in views:
                torch.testing.assert_close(ours[tag], theirs[tag], rtol=0, atol=0)


def test_a_broken_video_names_its_episode(write_set):
    root, _ = write_set()
    (video,) = root.rglob("*.mp4")
    video.write_bytes(video.read_bytes()[:200])
    with pytest.raises(DataError, match=rf"{VIDEO} of episode 2: "):
        images_at(LeRobotSource(root), VIDEO, PLACES)


def test_frames_outside_are_refused(write_set):
    source = LeRobotSource(write_set()[0])
    with pytest.raises(DataError, match=r"frame must lie in \[0, 1\) in episode 1"):
        images_at(source, VIDEO, [(0, 0), (1, 1)])
    with pytest.raises(DataError, match="has no camera 'side'"):
        images_at(source, "side", [(0, 0)])


def test_readers_without_it_are_asked_once_per_episode():
    reader = CountingReader(memory_source())
    assert not isinstance(reader, ScatteredFrames)
    for views, (episode, frame) in zip(frames_at(reader, PLACES), PLACES, strict=True):
        torch.testing.assert_close(views["top"], reader.source.images(episode, VIDEO, [frame])[0], rtol=0, atol=0)
    assert reader.calls == [(0, [0, 4]), (1, [0]), (2, [1, 6])]


@pytest.mark.parametrize("cache_frames", [False, True])
def test_a_batch_of_windows_equals_its_items(cache_frames):
    reader = RobotReader(memory_source(), embodiment="toy", views={"top": VIDEO}, cache_frames=cache_frames)
    dataset = ChunkDataset(reader, horizon=3)
    items = [12, 0, 5, 12, -1]
    (batch,) = DataLoader(dataset, batch_size=len(items), sampler=items, collate_fn=list)
    for together, item in zip(batch, items, strict=True):
        alone = dataset[item]
        assert (together.episode, together.frame) == (alone.episode, alone.frame)
        torch.testing.assert_close(together.views["top"], alone.views["top"], rtol=0, atol=0)
        torch.testing.assert_close(together.actions, alone.actions, rtol=0, atol=0)
        torch.testing.assert_close(together.valid, alone.valid, rtol=0, atol=0)
    assert RobotReader(memory_source(), embodiment="toy").frames_at([(0, 1), (2, 0)]) == [{}, {}]
