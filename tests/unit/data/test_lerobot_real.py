"""Our writer and reader against the real lerobot, which needs its own environment (other versions of torch).

python3.11 -m venv lerobot && lerobot/bin/pip install lerobot==0.4.4 torch==2.9.1 torchvision==0.24.1 torchcodec==0.9.1
VLA_KIT_LEROBOT_PYTHON=lerobot/bin/python pytest -m slow tests/unit/data/test_lerobot_real.py
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from vla_kit.data.lerobot_merge import merge_lerobot
from vla_kit.data.readers.lerobot import LeRobotReader

PYTHON = os.environ.get("VLA_KIT_LEROBOT_PYTHON")
VIDEO, IMAGE, STATE = "observation.images.top", "observation.images.wrist", "observation.state"
VIEWS = {"top": VIDEO, "wrist": IMAGE}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PYTHON is None, reason="VLA_KIT_LEROBOT_PYTHON names no interpreter with lerobot==0.4.4"),
]

READ = """
import sys, json
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
root, out, backend = sys.argv[1:]
dataset = LeRobotDataset("local/set", root=root, video_backend=backend)
items = [dataset[index] for index in range(len(dataset))]
keys = ["action", "observation.state", "observation.images.top", "observation.images.wrist", "timestamp",
        "episode_index", "frame_index", "index"]
np.savez(out, tasks=[item["task"] for item in items], stats=np.stack([dataset.meta.stats["action"]["q01"]]),
         **{key: np.stack([item[key].numpy() for item in items]) for key in keys})
"""

WRITE = """
import sys
import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
root, source = sys.argv[1:]
data = np.load(source)
features = {
    "action": {"dtype": "float32", "shape": (3,), "names": ["x", "y", "grip"]},
    "observation.state": {"dtype": "float32", "shape": (2,), "names": None},
    "observation.images.top": {"dtype": "video", "shape": (64, 64, 3), "names": ["height", "width", "channels"]},
    "observation.images.wrist": {"dtype": "image", "shape": (64, 64, 3), "names": ["height", "width", "channels"]},
}
dataset = LeRobotDataset.create("local/set", fps=10, features=features, root=root, robot_type="toy", vcodec="h264")
for episode in range(2):
    for step in range(6):
        dataset.add_frame({"action": data["action"][episode, step], "observation.state": data["state"][episode, step],
                           "observation.images.top": data["top"][episode, step],
                           "observation.images.wrist": data["wrist"][episode, step], "task": f"task {episode}"})
    dataset.save_episode()
dataset.finalize()
"""


def run(script: str, *arguments: Path | str) -> None:
    settings = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": "", "HF_HOME": str(Path(arguments[1]).parent / "hf")}
    done = subprocess.run(
        [str(PYTHON), "-c", script, *map(str, arguments)], env=settings, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("merged", [False, True], ids=["written", "merged"])
def test_lerobot_reads_our_set_as_we_do(write_set, tmp_path, merged):
    root, _ = write_set("a", lengths=(5, 2, 7))
    if merged:
        other, _ = write_set("b", lengths=(3, 4), seed=9, words="other")
        merge_lerobot([root, other], tmp_path / "ab")
        root = tmp_path / "ab"
    run(READ, root, tmp_path / "theirs.npz", os.environ.get("VLA_KIT_LEROBOT_VIDEO", "torchcodec"))
    theirs = np.load(tmp_path / "theirs.npz")
    reader = LeRobotReader(root, embodiment="toy", views=VIEWS)
    assert len(theirs["action"]) == reader.num_frames
    start = 0
    for index in range(reader.num_episodes):
        length = reader.episode(index).length
        rows = slice(start, start + length)
        start += length
        np.testing.assert_array_equal(theirs["action"][rows], reader.actions(index))
        np.testing.assert_array_equal(theirs["observation.state"][rows], reader.column(index, STATE))
        np.testing.assert_array_equal(theirs["frame_index"][rows], np.arange(length))
        assert set(theirs["episode_index"][rows]) == {index}
        assert theirs["tasks"][rows].tolist() == [reader.instruction_at(index, frame) for frame in range(length)]
        frames = reader.frames(index, range(length))
        for tag, key in VIEWS.items():
            difference = np.abs(theirs[key][rows] * 255 - frames[tag].numpy())
            assert difference.max() <= (2.01 if tag == "top" else 1e-3)
    np.testing.assert_array_equal(theirs["index"], np.arange(reader.num_frames))


def test_we_read_what_lerobot_wrote(tmp_path):
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:64, 0:64]
    top = np.stack([2 * rows + columns, 3 * columns, 3 * rows], axis=-1)
    source = {
        "action": rng.normal(size=(2, 6, 3)).astype(np.float32),
        "state": rng.normal(size=(2, 6, 2)).astype(np.float32),
        "top": np.stack([[top + 5 * step + 10 * episode for step in range(6)] for episode in range(2)]).astype(
            np.uint8
        ),
        "wrist": rng.integers(0, 256, size=(2, 6, 64, 64, 3), dtype=np.uint8),
    }
    np.savez(tmp_path / "source.npz", **source)
    run(WRITE, tmp_path / "set", tmp_path / "source.npz")
    reader = LeRobotReader(tmp_path / "set", embodiment="toy", views=VIEWS, cache_frames=True)
    assert (reader.num_episodes, reader.rate_hz) == (2, 10.0)
    for episode in range(2):
        assert reader.instruction_at(episode, 3) == f"task {episode}"
        assert reader.episode(episode).seed is None
        np.testing.assert_array_equal(reader.actions(episode), source["action"][episode])
        np.testing.assert_array_equal(reader.column(episode, STATE), source["state"][episode])
        frames = {
            tag: value.permute(0, 2, 3, 1).numpy().astype(int)
            for tag, value in reader.frames(episode, range(6)).items()
        }
        np.testing.assert_array_equal(frames["wrist"], source["wrist"][episode])
        assert np.abs(frames["top"] - source["top"][episode]).mean() < 4
    assert reader.statistics().count == 12
