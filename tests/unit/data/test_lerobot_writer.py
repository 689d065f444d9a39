import json
import os

import numpy as np
import pandas as pd
import pytest

import vla_kit.data.lerobot_writer as module
from vla_kit.data.lerobot_writer import LeRobotWriter
from vla_kit.data.readers.lerobot import LeRobotSource
from vla_kit.errors import DataError, DtypeError, SettingError, ShapeError

VIDEO, IMAGE = "observation.images.top", "observation.images.wrist"
PLAIN = {"action": {"dtype": "float32", "shape": (2,)}, "reward": {"dtype": "float32", "shape": (1,)}}
CAMERA = {"action": {"dtype": "float32", "shape": (2,)}, "cam": {"dtype": "image", "shape": (4, 4, 3)}}


def test_files_and_metadata_are_those_of_lerobot(write_set):
    root, _ = write_set()
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    assert files == [
        "data/chunk-000/file-000.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
        f"videos/{VIDEO}/chunk-000/file-000.mp4",
    ]
    info = json.loads((root / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 13, 2)
    assert (info["fps"], info["splits"], info["robot_type"]) == (10, {"train": "0:3"}, "toy")
    assert info["features"][VIDEO]["info"]["video.codec"] == "h264"


def test_episode_table_by_hand(write_set):
    root, episodes = write_set()
    table = pd.read_parquet(root / "meta/episodes/chunk-000/file-000.parquet")
    assert table["dataset_from_index"].tolist() == [0, 5, 6]
    assert table["dataset_to_index"].tolist() == [5, 6, 13]
    assert table[f"videos/{VIDEO}/from_timestamp"].tolist() == [0.0, 0.5, 0.6]
    assert table[f"videos/{VIDEO}/to_timestamp"].tolist() == [0.5, 0.6, 1.3]
    assert [list(tasks) for tasks in table["tasks"]] == [["task 0"], ["task 1"], ["task 0"]]
    assert table["seed"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(table["stats/action/mean"][2], episodes[2]["action"].mean(axis=0), rtol=1e-6)


def test_frame_table_by_hand(write_set):
    root, _ = write_set()
    table = pd.read_parquet(root / "data/chunk-000/file-000.parquet")
    assert table["index"].tolist() == list(range(13))
    assert table["episode_index"].tolist() == [0] * 5 + [1] + [2] * 7
    assert table["frame_index"].tolist() == [*range(5), 0, *range(7)]
    assert table["task_index"].tolist() == [0] * 5 + [1] + [0] * 7
    np.testing.assert_array_equal(table["timestamp"][-3:], np.array([0.4, 0.5, 0.6], dtype=np.float32))


def test_statistics_are_those_of_all_frames_not_averages_of_episodes(write_set):
    root, episodes = write_set()
    stats = json.loads((root / "meta/stats.json").read_text())
    actions = np.concatenate([episode["action"] for episode in episodes])
    pixels = np.concatenate([episode[IMAGE].reshape(-1, 3) for episode in episodes]) / 255
    np.testing.assert_allclose(stats["action"]["q01"], np.quantile(actions, 0.01, axis=0), rtol=1e-6)
    np.testing.assert_allclose(stats["action"]["std"], actions.std(axis=0), rtol=1e-5)
    np.testing.assert_allclose(np.ravel(stats[IMAGE]["q90"]), np.quantile(pixels, 0.9, axis=0), rtol=1e-6)
    assert stats["action"]["count"] == [13]
    assert set(stats["action"]) == {"min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"}


def test_large_sets_spread_over_files(write_set, monkeypatch):
    monkeypatch.setattr(module, "_DATA_FILE_MB", 0)
    monkeypatch.setattr(module, "_VIDEO_FILE_S", 0.8)
    monkeypatch.setattr(module, "_CHUNK_SIZE", 2)
    root, episodes = write_set()
    assert (root / "data/chunk-001/file-000.parquet").is_file()
    assert (root / f"videos/{VIDEO}/chunk-000/file-001.mp4").is_file()
    source = LeRobotSource(root)
    for index, episode in enumerate(episodes):
        np.testing.assert_array_equal(source.column(index, "action"), episode["action"])
        steps = range(len(episode["action"]))
        np.testing.assert_array_equal(source.images(index, IMAGE, steps).permute(0, 2, 3, 1), episode[IMAGE])
        top = source.images(index, VIDEO, steps).permute(0, 2, 3, 1).numpy().astype(int)
        assert np.abs(top - episode[VIDEO]).mean() < 3


def test_long_episode_tables_spread_over_files(write_set, monkeypatch):
    monkeypatch.setattr(module, "_EPISODE_FILE_ROWS", 2)
    monkeypatch.setattr(module, "_EPISODE_GROUP_ROWS", 1)
    root, _ = write_set(lengths=(2, 1, 3, 1, 2))
    tables = [pd.read_parquet(path) for path in sorted((root / "meta/episodes").rglob("*.parquet"))]
    assert [len(table) for table in tables] == [2, 2, 1]
    assert pd.concat(tables)["meta/episodes/file_index"].tolist() == [0, 0, 1, 1, 2]
    assert LeRobotSource(root).lengths.tolist() == [2, 1, 3, 1, 2]


def test_a_sentence_per_frame(tmp_path):
    with LeRobotWriter(tmp_path / "set", rate_hz=10, features=PLAIN) as writer:
        told = ["reach", "lift", "reach"]
        writer.add_episode(np.zeros((3, 2)), instruction=told, columns={"reward": np.zeros(3)})
        with pytest.raises(ShapeError, match=r"instruction must hold one sentence per frame \(2\), got 1"):
            writer.add_episode(np.zeros((2, 2)), instruction=["reach"], columns={"reward": np.zeros(2)})
    source = LeRobotSource(tmp_path / "set")
    assert [source.instruction_at(0, frame) for frame in range(3)] == told
    assert source.episode(0).instructions == ("reach", "lift")


def test_pictures_are_read_in_parts_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PART_FRAMES", 2)
    pixels = np.random.default_rng(0).integers(0, 256, size=(5, 4, 4, 3), dtype=np.uint8)
    asked = []

    class Recording:
        shape, dtype = pixels.shape, pixels.dtype

        def __getitem__(self, part):
            asked.append((part.start, part.stop))
            return pixels[part]

    with LeRobotWriter(tmp_path / "set", rate_hz=10, features=CAMERA) as writer:
        writer.add_episode(np.zeros((5, 2)), {"cam": Recording()}, instruction="go")
        assert writer.pixel_histograms["cam"].sum() == pixels.size
    assert asked == [(0, 2), (2, 4), (4, 6)]
    np.testing.assert_array_equal(
        LeRobotSource(tmp_path / "set").images(0, "cam", range(5)).permute(0, 2, 3, 1), pixels
    )


def test_columns_of_size_one_may_be_flat(tmp_path):
    with LeRobotWriter(tmp_path / "set", rate_hz=2.5, features=PLAIN) as writer:
        writer.add_episode(np.zeros((2, 2)), instruction="go", columns={"reward": np.array([1.0, 2.0])})
        assert (writer.num_episodes, writer.num_frames) == (1, 2)
    source = LeRobotSource(tmp_path / "set")
    assert source.column(0, "reward").tolist() == [[1.0], [2.0]]
    assert source.rate_hz == 2.5


def test_nothing_remains_after_an_exception(tmp_path):
    def collect():
        with LeRobotWriter(tmp_path / "set", rate_hz=10, features=PLAIN) as writer:
            writer.add_episode(np.zeros((2, 2)), instruction="go", columns={"reward": np.zeros(2)})
            raise RuntimeError("simulator")

    with pytest.raises(RuntimeError, match="simulator"):
        collect()
    assert list(tmp_path.iterdir()) == []


def test_nothing_remains_when_the_disk_fails(tmp_path, monkeypatch):
    writer = LeRobotWriter(tmp_path / "set", rate_hz=10, features=PLAIN)
    writer.add_episode(np.zeros((2, 2)), instruction="go", columns={"reward": np.zeros(2)})

    def full(*_args, **_settings):
        raise OSError("no space left")

    monkeypatch.setattr(module, "write_meta", full)
    with pytest.raises(OSError, match="no space left"):
        writer.close()
    assert list(tmp_path.iterdir()) == []


def test_root_appears_only_at_the_end(tmp_path):
    writer = LeRobotWriter(tmp_path / "set", rate_hz=10, features=PLAIN)
    writer.add_episode(np.zeros((2, 2)), instruction="go", columns={"reward": np.zeros(2)})
    assert not (tmp_path / "set").exists()
    writer.close()
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert os.stat(tmp_path / "set").st_mode & 0o777 == 0o755


def test_a_wrong_episode_leaves_the_writer_usable(tmp_path):
    with LeRobotWriter(tmp_path / "set", rate_hz=10, features=PLAIN) as writer:
        with pytest.raises(DataError):
            writer.add_episode(np.full((2, 2), np.nan), instruction="go", columns={"reward": np.zeros(2)})
        writer.add_episode(np.ones((2, 2)), instruction="go", columns={"reward": np.zeros(2)})
    assert LeRobotSource(tmp_path / "set").lengths.tolist() == [2]


def test_root_must_be_new(tmp_path):
    (tmp_path / "set").mkdir()
    LeRobotWriter(tmp_path / "set", rate_hz=10, features=PLAIN).abort()
    (tmp_path / "set/file").write_text("mine")
    with pytest.raises(SettingError, match="root must not exist yet or be empty"):
        LeRobotWriter(tmp_path / "set", rate_hz=10, features=PLAIN)


def test_rate_and_closing_are_checked(tmp_path):
    with pytest.raises(SettingError, match="rate_hz must be above 0 and finite, got 0"):
        LeRobotWriter(tmp_path / "set", rate_hz=0, features=PLAIN)
    writer = LeRobotWriter(tmp_path / "set", rate_hz=10, features=PLAIN)
    with pytest.raises(DataError, match="must hold at least one episode, got none"):
        writer.close()
    with pytest.raises(SettingError, match="add_episode must come before close"):
        writer.add_episode(np.zeros((1, 2)), instruction="go")


@pytest.mark.parametrize(
    ("actions", "columns", "error", "text"),
    [
        (np.zeros((0, 2)), {"reward": np.zeros(0)}, DataError, "actions must hold at least one step, got 0"),
        (
            np.zeros((2, 3)),
            {"reward": np.zeros(2)},
            ShapeError,
            r"action must have the shape .* \(2, 2\), got \(2, 3\)",
        ),
        (
            np.zeros((2, 2)),
            {"reward": np.zeros(3)},
            ShapeError,
            r"reward must have the shape .* \(2, 1\), got \(3, 1\)",
        ),
        (np.zeros((2, 2)), {}, DataError, r"columns must hold exactly the keys .*missing \['reward'\]"),
        (np.zeros((2, 2)), {"reward": np.zeros(2), "x": np.zeros(2)}, DataError, r"unknown \['x'\]"),
        (
            np.array([[0, 1], [2, np.inf]]),
            {"reward": np.zeros(2)},
            DataError,
            "action must be finite, got inf at step 1, channel 1",
        ),
    ],
)
def test_wrong_numbers(tmp_path, actions, columns, error, text):
    writer = LeRobotWriter(tmp_path / "set", rate_hz=10, features=PLAIN)
    with pytest.raises(error, match=text):
        writer.add_episode(actions, instruction="go", columns=columns)
    writer.abort()


@pytest.mark.parametrize(
    ("frames", "error", "text"),
    [
        ({}, DataError, r"frames must hold exactly the keys \['cam'\], got \[\]"),
        (
            {"cam": np.zeros((1, 4, 4, 3), dtype=np.uint8)},
            ShapeError,
            r"frames\['cam'\] must have the shape .* got \(1, 4, 4, 3\)",
        ),
        ({"cam": np.zeros((2, 4, 4, 3))}, DtypeError, r"frames\['cam'\] must be uint8 in \[0, 255\], got float64"),
    ],
)
def test_wrong_frames(tmp_path, frames, error, text):
    writer = LeRobotWriter(tmp_path / "set", rate_hz=10, features=CAMERA)
    with pytest.raises(error, match=text):
        writer.add_episode(np.zeros((2, 2)), frames, instruction="go")
    writer.abort()
