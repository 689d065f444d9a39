"""Our writer and reader against the real lerobot, which needs its own environment (other versions of torch).

python3.11 -m venv lerobot && lerobot/bin/pip install lerobot==0.4.4 torch==2.9.1 torchvision==0.24.1 torchcodec==0.9.1
VLA_KIT_LEROBOT_PYTHON=lerobot/bin/python pytest -m slow tests/unit/data/test_lerobot_real.py
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

from vla_kit.data.conversion import write_lerobot
from vla_kit.data.lerobot_merge import merge_lerobot
from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.data.readers.lerobot import LeRobotSource
from vla_kit.data.readers.open import open_source

PYTHON = os.environ.get("VLA_KIT_LEROBOT_PYTHON")
VIDEO, IMAGE, STATE = "observation.images.top", "observation.images.wrist", "observation.state"
MEAN_CODEC_ERROR = 4.0  # h264 at quality 18, mean over the worst episode, in levels of 255
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
numbers, tasks, frames = {}, [], {}
for index in range(len(dataset)):
    item = dataset[index]
    tasks.append(item.pop("task"))
    for key, value in item.items():
        if key in dataset.meta.camera_keys:
            pixels = (value * 255).round().byte().numpy()
            if key not in frames:
                shape = (len(dataset), *pixels.shape)
                frames[key] = np.lib.format.open_memmap(f"{out}/{key}.npy", mode="w+", dtype=np.uint8, shape=shape)
            frames[key][index] = pixels
        else:
            numbers.setdefault(key, []).append(value.numpy())
np.savez(f"{out}/numbers.npz", **{key: np.stack(values) for key, values in numbers.items()})
stats = {key: {name: np.asarray(value).tolist() for name, value in entry.items()}
         for key, entry in dataset.meta.stats.items()}
json.dump({"tasks": tasks, "stats": stats, "fps": dataset.fps}, open(f"{out}/rest.json", "w"))
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
    cache = str(Path(arguments[1]).parent / "hf")
    settings = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": "", "HF_HOME": cache}
    done = subprocess.run(
        [str(PYTHON), "-c", script, *map(str, arguments)], env=settings, capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stderr[-3000:]


@dataclass(frozen=True)
class Theirs:
    """What the real lerobot gives for every frame of a data set, in order."""

    numbers: dict[str, np.ndarray]
    frames: dict[str, np.ndarray]
    tasks: list[str]
    stats: dict[str, dict[str, list]]
    fps: float


def read_with_lerobot(root: Path, folder: Path) -> Theirs:
    folder.mkdir()
    run(READ, root, folder, os.environ.get("VLA_KIT_LEROBOT_VIDEO", "torchcodec"))
    rest = json.loads((folder / "rest.json").read_text())
    frames = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
    return Theirs(numbers=dict(np.load(folder / "numbers.npz")), frames=frames, **rest)


def assert_as_we_read(theirs: Theirs, source: LeRobotSource) -> None:
    """Numbers and sentences are equal; exact images too; video frames within two levels, a matter of rounding."""
    assert theirs.fps == source.rate_hz
    assert set(theirs.frames) == set(source.cameras)
    assert len(theirs.tasks) == source.lengths.sum()
    start = 0
    for index, length in enumerate(source.lengths.tolist()):
        rows = slice(start, start + length)
        start += length
        assert set(theirs.numbers["episode_index"][rows]) == {index}
        np.testing.assert_array_equal(theirs.numbers["frame_index"][rows], np.arange(length))
        assert theirs.tasks[rows] == [source.instruction_at(index, frame) for frame in range(length)]
        for key in source.columns:
            values = source.column(index, key)
            if values.dtype == np.float64:
                values = values.astype(np.float32)  # lerobot makes float32 tensors of every float
            np.testing.assert_array_equal(theirs.numbers[key][rows].reshape(length, -1), values, err_msg=key)
        for key, camera in source.cameras.items():
            difference = theirs.frames[key][rows].astype(int) - source.images(index, key, range(length)).numpy()
            assert np.abs(difference).max() <= (2 if camera.video else 0), key
    np.testing.assert_array_equal(theirs.numbers["index"], np.arange(start))


@pytest.mark.parametrize("merged", [False, True], ids=["written", "merged"])
def test_lerobot_reads_our_set_as_we_do(write_set, tmp_path, merged):
    root, _ = write_set("a", lengths=(5, 2, 7))
    if merged:
        other, _ = write_set("b", lengths=(3, 4), seed=9, words="other")
        merge_lerobot([root, other], tmp_path / "ab")
        root = tmp_path / "ab"
    assert_as_we_read(read_with_lerobot(root, tmp_path / "theirs"), LeRobotSource(root))


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
    written = LeRobotSource(tmp_path / "set")
    assert (len(written.lengths), written.rate_hz) == (2, 10.0)
    for episode in range(2):
        assert written.instruction_at(episode, 3) == f"task {episode}"
        assert written.episode(episode).seed is None
        np.testing.assert_array_equal(written.column(episode, "action"), source["action"][episode])
        np.testing.assert_array_equal(written.column(episode, STATE), source["state"][episode])
        wrist, top = (written.images(episode, key, range(6)).permute(0, 2, 3, 1).numpy() for key in (IMAGE, VIDEO))
        np.testing.assert_array_equal(wrist, source["wrist"][episode])
        assert np.abs(top.astype(int) - source["top"][episode]).mean() < 4


class ChangingSentence(MemorySource):
    def instruction_at(self, index: int, frame: int) -> str:
        return "reach" if frame < 2 else f"lift {index}"


def test_lerobot_reads_a_sentence_per_frame(tmp_path):
    episodes = [MemoryEpisode(columns={"action": np.full((length, 2), length)}) for length in (4, 1, 3)]
    write_lerobot(ChangingSentence(episodes, rate_hz=10), tmp_path / "set", block_frames=4)
    theirs = read_with_lerobot(tmp_path / "set", tmp_path / "theirs")
    assert theirs.tasks == ["reach", "reach", "lift 0", "lift 0", "reach", "reach", "reach", "lift 2"]
    assert_as_we_read(theirs, LeRobotSource(tmp_path / "set"))


def write_robomimic(path: Path) -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:48, 0:64]
    base = np.stack([4 * rows, 3 * columns, 2 * rows + columns], axis=-1)
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": 20}})
        for index, length in enumerate((12, 7, 15)):
            demo = file["data"].create_group(f"demo_{index}")
            demo.attrs["ep_meta"] = json.dumps({"lang": f"stack cube {index % 2}"})
            demo["actions"] = rng.normal(size=(length, 7))
            demo["dones"] = np.eye(1, length, length - 1, dtype=np.int64)[0]
            demo["obs/robot0_eef_pos"] = rng.normal(size=(length, 3)).astype(np.float32)
            moving = np.stack([base + 5 * step + 20 * index for step in range(length)])
            demo["obs/agentview_image"] = np.clip(moving, 0, 255).astype(np.uint8)


CASES = {
    "gr1_v2.0": ("groot_gr1_pnp", {}),
    "bridge_rlds": ("bridge_rlds_debug", {"rate_hz": 5}),
    "bridge_rlds_images": ("bridge_rlds_debug", {"rate_hz": 5, "cameras": "image"}),
    "robomimic_hdf5": (None, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_lerobot_reads_what_we_converted(case, shared_data, tmp_path):
    folder, settings = CASES[case]
    if folder is None:
        write_robomimic(tmp_path / "stack.hdf5")
    source = open_source(tmp_path / "stack.hdf5" if folder is None else shared_data / folder)
    done = write_lerobot(source, tmp_path / "set", block_frames=500 if folder == "groot_gr1_pnp" else 100, **settings)
    theirs, ours = read_with_lerobot(tmp_path / "set", tmp_path / "theirs"), LeRobotSource(tmp_path / "set")
    assert_as_we_read(theirs, ours)
    assert done.episodes == tuple(range(len(source.lengths)))
    assert ours.lengths.tolist() == source.lengths.tolist()
    everything: dict[str, list[np.ndarray]] = {}
    worst = 0.0
    for index, length in enumerate(source.lengths.tolist()):
        sentences = [source.instruction_at(index, frame) for frame in range(length)]
        assert [ours.instruction_at(index, frame) for frame in range(length)] == sentences
        for name, keys in done.keys.columns.items():
            values = ours.column(index, name)
            np.testing.assert_array_equal(values, np.concatenate([source.column(index, key) for key in keys], axis=1))
            everything.setdefault(name, []).append(values)
        for name, key in done.keys.cameras.items():
            before, after = (each.images(index, which, range(length)) for each, which in ((source, key), (ours, name)))
            difference = (before.int() - after.int()).abs().float()
            worst = max(worst, difference.mean().item())
            assert difference.max() == 0 or name in done.videos
    assert worst < MEAN_CODEC_ERROR
    for name, parts in everything.items():
        quantile = np.quantile(np.concatenate(parts).astype(np.float64), 0.99, axis=0)
        np.testing.assert_allclose(theirs.stats[name]["q99"], quantile, rtol=1e-6, atol=1e-9)
