import numpy as np
import pytest
import torch

from vla_kit.data import ChunkDataset, MemoryEpisode, MemorySource, RobotReader
from vla_kit.embodiment import History
from vla_kit.errors import DtypeError, SettingError, ShapeError
from vla_kit.policy import FrameHistory


def picture(level):
    return np.full((4, 6, 3), level, dtype=np.uint8)


def levels(views, tag="ego"):
    return views[tag][:, 0, 0, 0].tolist()


def test_fewer_frames_at_the_start_then_even_distances():
    seen = FrameHistory(History(frames=3, rate_hz=2), control_hz=4)
    shown = []
    for step in range(7):
        seen.add({"ego": picture(step), "wrist": picture(100 + step)})
        shown.append(levels(seen.views()))
    assert shown == [[0], [1], [0, 2], [1, 3], [0, 2, 4], [1, 3, 5], [2, 4, 6]]
    assert levels(seen.views(), "wrist") == [102, 104, 106]
    assert seen.views()["ego"].shape == (3, 3, 4, 6)
    assert len(seen) == 5  # no more than will be asked for


@pytest.mark.parametrize(("rate_hz", "frames"), [(10, 2), (2.5, 4), (3, 3), (7, 5)])
def test_the_robot_sees_the_frames_of_its_training_data(rate_hz, frames):
    history = History(frames=frames, rate_hz=rate_hz)
    pictures = np.arange(25, dtype=np.uint8)[:, None, None, None] * np.ones((4, 6, 3), dtype=np.uint8)
    episode = MemoryEpisode(columns={"action": np.zeros((25, 1))}, cameras={"top": pictures})
    reader = RobotReader(MemorySource([episode], rate_hz=10), embodiment="arm", views={"ego": "top"})
    seen = FrameHistory(history, control_hz=10)
    for sample in ChunkDataset(reader, horizon=1, history=history):
        seen.add({"ego": pictures[sample.frame]})
        assert levels(seen.views()) == sample.views["ego"][:, 0, 0, 0].tolist()


def test_a_new_episode_forgets_and_pictures_are_copies():
    seen = FrameHistory(History(frames=2, rate_hz=1), control_hz=1)
    reused = picture(1)
    seen.add({"ego": reused})
    reused[:] = 2
    seen.add({"ego": torch.from_numpy(reused)})
    assert levels(seen.views()) == [1, 2]
    seen.reset()
    with pytest.raises(SettingError, match="views must come after add, got no picture of this episode"):
        seen.views()
    seen.add({"wrist": picture(3)})
    assert levels(seen.views(), "wrist") == [3]


def test_refused():
    seen = FrameHistory(History(frames=2, rate_hz=1), control_hz=1)
    seen.add({"ego": picture(1)})
    with pytest.raises(ShapeError, match=r"views must have the tags and shapes .*'ego': .*got \{'wrist'"):
        seen.add({"wrist": picture(1)})
    with pytest.raises(ShapeError, match=r"got \{'ego': \(3, 2, 6\)\}. Call reset"):
        seen.add({"ego": picture(1)[:2]})
    with pytest.raises(DtypeError, match=r"views\['ego'\] must be uint8"):
        seen.add({"ego": picture(1) / 255})
    with pytest.raises(SettingError, match="rate_hz must be at most the recorded 1 Hz"):
        FrameHistory(History(frames=2, rate_hz=2), control_hz=1)
