"""Readers of `vla_kit.data` on files that are damaged or say something else, and writers that fail half-way."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from contract_cases import data_files as files
from contract_cases.data import loader, memory_episode

from vla_kit.data.eigengrasp_file import load_eigengrasps, save_eigengrasps
from vla_kit.data.frame_cache import CachedSource
from vla_kit.data.lerobot_merge import merge_lerobot
from vla_kit.data.lerobot_writer import LeRobotWriter
from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.data.readers.egodex import open_egodex
from vla_kit.data.readers.hand_tracks import HandRecord
from vla_kit.data.readers.hdf5_aloha import open_aloha
from vla_kit.data.readers.hot3d import open_hot3d
from vla_kit.data.readers.lerobot import LeRobotSource, open_lerobot
from vla_kit.data.readers.matterport import read_connectivity
from vla_kit.data.readers.open import open_source
from vla_kit.data.readers.rlds import RLDSSource
from vla_kit.data.readers.vitra import open_vitra
from vla_kit.data.readers.vln import read_vln
from vla_kit.data.readers.vln_ce import read_vln_ce
from vla_kit.data.source import CameraInfo, EpisodeSource
from vla_kit.data.statistics.cache import StatisticsCache
from vla_kit.data.statistics.columns import source_statistics
from vla_kit.data.statistics.published import compare_published
from vla_kit.data.statistics.write import write_statistics
from vla_kit.data.video import open_video
from vla_kit.data.video_pyav import PyAVEncoder
from vla_kit.errors import CheckpointError, DataError, DtypeError, SettingError, ShapeError, VLAKitError


def read_all(source: EpisodeSource) -> None:
    for index in range(len(source.lengths)):
        source.episode(index)
        source.instruction_at(index, 0)
        for key in source.columns:
            source.column(index, key)


def read_hot3d(root: Path) -> None:
    read_all(open_hot3d(root, mano=files.basis_file(root.parent, 15)))


def read_published(root: Path) -> None:
    source = open_lerobot(root)
    compare_published(source, source_statistics(source))


# What to write, what of it to damage, and how it is then read.
READERS: dict[str, tuple[Callable[[Path], Path], str, Callable[[Path], object]]] = {
    "LeRobot, info": (files.lerobot, "meta/info.json", lambda root: read_all(open_lerobot(root))),
    "LeRobot, tasks": (files.lerobot, "meta/tasks.parquet", lambda root: read_all(open_lerobot(root))),
    "LeRobot, episodes": (files.lerobot, "meta/episodes/chunk-000/file-000.parquet", lambda root: open_lerobot(root)),
    "LeRobot, data": (files.lerobot, "data/chunk-000/file-000.parquet", lambda root: read_all(open_lerobot(root))),
    "LeRobot, statistics": (files.lerobot, "meta/stats.json", read_published),
    "LeRobot v2, info": (files.lerobot_v2, "meta/info.json", lambda root: read_all(open_lerobot(root))),
    "LeRobot v2, tasks": (files.lerobot_v2, "meta/tasks.jsonl", lambda root: read_all(open_lerobot(root))),
    "LeRobot v2, episodes": (files.lerobot_v2, "meta/episodes.jsonl", lambda root: read_all(open_lerobot(root))),
    "LeRobot v2, data": (
        files.lerobot_v2,
        "data/chunk-000/episode_000000.parquet",
        lambda root: read_all(open_lerobot(root)),
    ),
    "RLDS, features": (files.rlds, "features.json", lambda root: read_all(RLDSSource(root))),
    "RLDS, records": (files.rlds, "toy-train.tfrecord-00000-of-00001", lambda root: read_all(RLDSSource(root))),
    "ALOHA": (files.aloha, "", lambda path: read_all(open_aloha(path))),
    "EgoDex": (files.egodex, "", lambda path: read_all(open_egodex(path))),
    "HOT3D, hands": (lambda folder: files.hot3d(folder).parent, "mano_hand_pose_trajectory.jsonl", read_hot3d),
    "HOT3D, headset": (lambda folder: files.hot3d(folder).parent, "headset_trajectory.csv", read_hot3d),
    "VITRA, arrays": (files.vitra, "", lambda path: read_all(open_vitra(path))),
    "VITRA, words": (lambda folder: files.vitra(folder).parent, "a.meta.json", lambda root: read_all(open_vitra(root))),
    "R2R": (files.r2r, "", read_vln),
    "VLN-CE": (files.vln_ce, "", read_vln_ce),
    "VLN-CE, truth": (
        lambda folder: files.vln_ce(folder).parent,
        "train_gt.json.gz",
        lambda root: read_vln_ce(root / "train.json.gz", ground_truth=root / "train_gt.json.gz"),
    ),
    "connectivity": (files.connectivity, "", read_connectivity),
    "eigengrasps": (lambda folder: Path(files.basis_file(folder)), "", load_eigengrasps),
    "video": (files.video, "", lambda path: open_video(path, backend="pyav").frames(range(3))),
}

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "garbage": lambda content: np.random.default_rng(0).bytes(max(len(content), 64)),
    "cut": lambda content: content[: len(content) * 2 // 3],
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_files_are_named(reader, damage, tmp_path):
    make, part, read = READERS[reader]
    root = make(tmp_path)
    read(root)
    path = root / part if part else root
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(VLAKitError) as caught:
        read(root)
    text = str(caught.value)
    assert str(root) in text, text
    assert len(text.split(". ")) > 1, text


def edit_json(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content)))


def edit_lines(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the first line."""
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(change(json.loads(first))), *others]) + "\n")


def edit_arrays(path: Path, **changes: np.ndarray) -> None:
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **(arrays | changes))


def edit_table(path: Path, key: str, values: pa.Array) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.get_field_index(key), key, values), path)


INFO, TASKS, EPISODES = "meta/info.json", "meta/tasks.parquet", "meta/episodes/chunk-000/file-000.parquet"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (5, r"info\.json must hold \['codebase_version', 'features', 'fps'\], got int"),
        ([], "must hold .* got list"),
        ({"shape": "wide"}, r"info\.json: shape of action must be a list of sizes, got 'wide'"),
        ({"shape": [2.5]}, r"shape of action must be a list of sizes, got \[2.5\]"),
    ],
)
@pytest.mark.parametrize("make", [files.lerobot, files.lerobot_v2])
def test_info_of_lerobot_says_something_else(make, content, text, tmp_path):
    root = make(tmp_path)

    def change(info):
        if not isinstance(content, dict):
            return content
        info["features"]["action"] |= content
        return info

    edit_json(root / INFO, change)
    with pytest.raises(DataError, match=text):
        open_lerobot(root)


@pytest.mark.parametrize(
    ("key", "values", "text"),
    [
        ("length", pa.array(["two"]), "length must hold a number for every episode, got string with 0 nulls"),
        ("length", pa.array([None], pa.int64()), "length must hold a number for every episode, got int64 with 1 null"),
        ("data/file_index", pa.array(["x"]), "data/file_index must hold a number for every episode, got string"),
        ("tasks", pa.array(["push"]), "tasks must hold lists of sentences, got string"),
        ("seed", pa.array(["x"]), "seed must hold numbers, got string"),
    ],
)
def test_episode_table_of_lerobot_has_other_columns(key, values, text, tmp_path):
    root = files.lerobot(tmp_path)
    edit_table(root / EPISODES, key, values)
    with pytest.raises(DataError, match=f"meta/episodes: {text}"):
        open_lerobot(root)


def test_episode_tables_of_lerobot_do_not_fit_together(tmp_path):
    root = files.lerobot(tmp_path)
    second = root / EPISODES.replace("file-000", "file-001")
    pq.write_table(pq.read_table(root / EPISODES), second)
    edit_table(second, "episode_index", pa.array([["one"]]))
    with pytest.raises(DataError, match="meta/episodes must hold columns of one type in all files"):
        open_lerobot(root)


@pytest.mark.parametrize("values", [pa.array(["zero"]), pa.array([None], pa.int64())])
def test_tasks_of_lerobot_have_no_numbers(values, tmp_path):
    root = files.lerobot(tmp_path)
    edit_table(root / TASKS, "task_index", values)
    with pytest.raises(DataError, match=r"tasks\.parquet must hold a whole task_index and a sentence in every row"):
        open_lerobot(root)


def test_published_statistics_that_are_no_numbers(tmp_path):
    root = files.lerobot(tmp_path)
    edit_json(root / "meta/stats.json", lambda stats: stats | {"action": {"q01": ["low", 1]}})
    with pytest.raises(DataError, match=r"v3: published q01 of action must be numbers, got \['low', 1\]"):
        read_published(root)


def test_lerobot_v2_says_something_else(tmp_path):
    root = files.lerobot_v2(tmp_path)
    edit_json(root / INFO, lambda info: info | {"chunks_size": "many"})
    with pytest.raises(DataError, match=r"info\.json: chunks_size must be at least 1, got 'many'"):
        open_lerobot(root)
    edit_json(root / INFO, lambda info: info | {"chunks_size": 1000})
    edit_lines(root / "meta/episodes.jsonl", lambda row: row | {"tasks": 5})
    with pytest.raises(DataError, match=r"episodes\.jsonl must list tasks, got 5 in line 1"):
        open_lerobot(root)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"featuresDict": {"features": []}},
        {"featuresDict": {"features": {"steps": {"sequence": {"feature": {"featuresDict": {"features": {"a": 1}}}}}}}},
        {
            "featuresDict": {
                "features": {
                    "steps": {
                        "sequence": {
                            "feature": {
                                "featuresDict": {"features": {"a": {"tensor": {"shape": {"dimensions": ["wide"]}}}}}
                            }
                        }
                    }
                }
            }
        },
    ],
)
def test_features_of_rlds_say_something_else(content, tmp_path):
    root = files.rlds(tmp_path)
    (root / "features.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"features\.json must (describe features|hold a sequence 'steps')"):
        RLDSSource(root)


def replace(path: Path, key: str, values: Any) -> None:
    with h5py.File(path, "a") as file:
        del file[key]
        file[key] = values


@pytest.mark.parametrize(
    ("key", "values", "text"),
    [
        (
            "transforms/leftThumbTip",
            np.zeros((2, 4, 4)),
            r"leftThumbTip must have the shape \(6, 4, 4\), got \(2, 4, 4",
        ),
        ("transforms/leftThumbTip", np.zeros((6, 3)), r"leftThumbTip must have the shape \(6, 4, 4\), got \(6, 3\)"),
        ("transforms/leftThumbTip", ["far"] * 6, "leftThumbTip must be readable numbers, got"),
        (
            "confidences/rightHand",
            np.ones(2),
            "confidences/rightHand must have a number for each of the 6 frames, got 2",
        ),
        ("confidences/rightHand", ["sure"] * 6, "confidences/rightHand must be readable numbers, got"),
        ("transforms/camera", np.full((6, 4, 4), np.nan), "camera must be finite in every frame"),
    ],
)
def test_egodex_holds_something_else(key, values, text, tmp_path):
    path = files.egodex(tmp_path)
    replace(path, key, values)
    with pytest.raises(DataError, match=rf"0\.hdf5: .*{text}"):
        read_all(open_egodex(path))


def test_egodex_without_a_camera_names_the_file(tmp_path):
    path = files.egodex(tmp_path)
    replace(path, "transforms/camera", np.zeros(6))
    with pytest.raises(DataError, match=r"0\.hdf5: transforms/camera must have the shape"):
        open_egodex(path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"joint_angles": None}, "joint_angles must have as many numbers as mano has directions|must hold numbers"),
        ({"joint_angles": ["a"] * 15}, r"joint_angles must hold numbers, got \['a', .* in line 1"),
        ({"wrist_xform": 5}, "wrist_xform must hold q_wxyz or q_xyzw, and t_xyz, got 5 in line 1"),
        ({"wrist_xform": {"q_wxyz": [1, 0, 0], "t_xyz": [0, 0, 0]}}, r"q_wxyz must hold 4 numbers, got \[1, 0, 0\]"),
        (
            {"wrist_xform": {"q_wxyz": [1, 0, 0, 0], "t_xyz": ["a"]}},
            r"t_xyz must hold 3 numbers, got \['a'\] in line 1",
        ),
    ],
)
def test_hands_of_hot3d_say_something_else(change, text, tmp_path):
    path = files.hot3d(tmp_path)

    def changed(line):
        line["hand_poses"]["0"] |= change
        return line

    edit_lines(path, changed)
    with pytest.raises(DataError, match=text):
        read_hot3d(path.parent)


def test_a_hand_of_hot3d_without_its_angles(tmp_path):
    path = files.hot3d(tmp_path)
    edit_lines(path, lambda line: line | {"hand_poses": {"1": {"wrist_xform": {}}}})
    with pytest.raises(DataError, match=r"jsonl: hand_poses must hold joint_angles and wrist_xform, got .* in line 1"):
        read_hot3d(path.parent)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("timestamp[ns]", "time", r"_trajectory\.csv must be a readable table .* got KeyError: 'timestamp\[ns\]'"),
        ("q_wo_w", "qw", r"_trajectory\.csv must be a readable table .* got KeyError: 'q_wo_w'"),
        (",1000,", ",1000,x", r"_trajectory\.csv: t_xyz must hold 3 numbers, got .'x0"),
    ],
)
def test_the_headset_of_hot3d_says_something_else(old, new, text, tmp_path):
    path = files.hot3d(tmp_path).with_name("headset_trajectory.csv")
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=text):
        read_hot3d(path.parent)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"left/hand_pose": np.zeros((8, 15, 3))},
            r"left/hand_pose must be numbers of the shape .* got .* \(8, 15, 3\)",
        ),
        ({"right/kept_frames": np.ones(3)}, "right/kept_frames must be numbers .* as many steps as extrinsics"),
        ({"extrinsics": np.zeros(())}, "extrinsics must be numbers of the shape"),
        ({"extrinsics": np.array([["a"]])}, "extrinsics must be numbers of the shape"),
        ({"extrinsics": np.full((8, 4, 4), np.nan)}, "camera must be finite in every frame"),
        (
            {"extrinsics": np.zeros((8, 4, 4)), "left/kept_frames": np.zeros(8), "right/kept_frames": np.zeros(8)},
            "extrinsics must be poses, got a matrix without inverse",
        ),
    ],
)
def test_vitra_holds_something_else(changes, text, tmp_path):
    path = files.vitra(tmp_path)
    edit_arrays(path, **changes)
    with pytest.raises(DataError, match=rf"a\.npz: .*{text}"):
        read_all(open_vitra(path))


@pytest.mark.parametrize("content", [[], {"text/left": 5}, {"text/left": [["wave"]]}, {"text/left": [[5, [0, 3]]]}])
def test_words_of_vitra_say_something_else(content, tmp_path):
    path = files.vitra(tmp_path)
    path.with_name("a.meta.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"a\.meta\.json: text/left and text/right must list sentences"):
        open_vitra(path)


def test_a_torn_archive_is_no_set_of_hands(tmp_path):
    path = files.vitra(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + content[-22:])  # the end of the archive points nowhere
    with pytest.raises(DataError, match="root must hold a LeRobot folder"):
        open_source(path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"heading": "north"}, "heading of episode 0 must be finite, got 'north'"),
        ({"heading": float("nan")}, "heading of episode 0 must be finite, got nan"),
        ({"path": "ab"}, "path of episode 0 must be a list, got 'ab'"),
        ({"instructions": "Go."}, "instructions of episode 0 must be a list, got 'Go.'"),
    ],
)
def test_r2r_says_something_else(change, text, tmp_path):
    path = files.r2r(tmp_path)
    edit_json(path, lambda rows: [rows[0] | change])
    with pytest.raises(DataError, match=rf"R2R_train\.json: {text}"):
        read_vln(path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"start_rotation": [float("nan")] * 4},
            "start_rotation must be unit quaternions about the vertical, got .nan",
        ),
        ({"start_rotation": ["a"] * 4}, "start_rotation must be unit quaternions about the vertical"),
        ({"start_rotation": 5}, "start_rotation of episode 1 must be a list, got 5"),
        ({"instruction": "Go."}, "instruction of episode 1 must be a dict, got 'Go.'"),
        ({"info": [6.4]}, r"info of episode 1 must be a dict, got \[6.4\]"),
        ({"info": {"geodesic_distance": "far"}}, "geodesic_distance must be a number, got 'far'"),
        ({"goals": {"position": [0, 0, 0]}}, "goals of episode 1 must be a list, got"),
        ({"goals": [[0, 0, 0]]}, "goals must be objects with a position, got"),
        (
            {"goals": [{"position": [0, 0, 0], "radius": float("nan")}]},
            "radius of a goal must be at least 0 and finite",
        ),
        ({"reference_path": 5}, "reference_path of episode 1 must be a list, got 5"),
    ],
)
def test_vln_ce_says_something_else(change, text, tmp_path):
    row = files.vln_ce_row() | change
    path = files.json_file(tmp_path, "val.json", {"episodes": [row]})
    with pytest.raises(DataError, match=rf"val\.json: {text}"):
        read_vln_ce(path)


def test_episodes_of_vln_ce_are_no_objects(tmp_path):
    path = files.json_file(tmp_path, "val.json", {"episodes": [5]})
    with pytest.raises(DataError, match=r"val\.json must hold an object with episodes"):
        read_vln_ce(path)


def test_the_truth_of_vln_ce_has_no_actions(tmp_path):
    path = files.vln_ce(tmp_path)
    truth = files.json_file(tmp_path, "other_gt.json", {"1": {"actions": ["go"], "locations": [[0, 0, 0]]}})
    with pytest.raises(DataError, match=r"other_gt\.json: actions of episode '1' must be integers, got \['go'\]"):
        read_vln_ce(path, ground_truth=truth)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"image_id": 5}, "every viewpoint must have 'image_id', a str, got 5"),
        ({"unobstructed": 5}, "every viewpoint must have 'unobstructed', a list, got 5"),
        ({"pose": ["a"] * 16}, "positions must hold a viewpoint of s, got none"),
    ],
)
def test_connectivity_says_something_else(change, text, tmp_path):
    path = files.connectivity(tmp_path)
    edit_json(path, lambda rows: [rows[0] | change])
    with pytest.raises(DataError, match=text):
        read_connectivity(path)


def test_a_failed_video_leaves_what_was_there(tmp_path):
    path = files.video(tmp_path)
    before = path.read_bytes()

    def record():
        with PyAVEncoder(path, rate_hz=10, height=16, width=16) as encoder:
            encoder.write(np.zeros((40, 16, 16, 3), dtype=np.uint8))
            raise RuntimeError("simulator")

    with pytest.raises(RuntimeError, match="simulator"):
        record()
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mp4"]
    assert path.read_bytes() == before


def test_a_video_appears_whole(tmp_path):
    path = tmp_path / "clip.mp4"
    with PyAVEncoder(path, rate_hz=10, height=16, width=16) as encoder:
        encoder.write(np.zeros((40, 16, 16, 3), dtype=np.uint8))
        assert encoder.num_bytes > 0
        assert not path.exists()
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mp4"]
    with pytest.raises(DataError, match=r"path must lie in a folder that exists, got .*gone"):
        PyAVEncoder(tmp_path / "gone" / "clip.mp4", rate_hz=10, height=16, width=16)


def test_no_frames_of_a_video(tmp_path):
    assert open_video(files.video(tmp_path), backend="pyav").frames([]).shape == (0, 3, 16, 16)


def test_a_failed_basis_leaves_what_was_there(tmp_path, monkeypatch):
    path = Path(files.basis_file(tmp_path))
    before = path.read_bytes()

    def full(tensors, name):
        Path(name).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("vla_kit.data.eigengrasp_file.save_file", full)
    with pytest.raises(DataError, match=r"path must be a file that can be written, got .*no space left"):
        save_eigengrasps(files.hand_basis(), path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_a_data_set_below_a_file(tmp_path):
    root = files.lerobot(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match=r"root must be a folder that can be made, got .*file/set"):
        LeRobotWriter(tmp_path / "file" / "set", rate_hz=10, features=files.FEATURES)
    with pytest.raises(SettingError, match=r"root must be a folder that can be made, got .*file/both"):
        merge_lerobot([root], tmp_path / "file" / "both")


@pytest.mark.parametrize(
    ("feature", "text"),
    [
        ({"dtype": "float32", "shape": 2}, r"features\['x'\] must have a shape of sizes above 0, got 2. Such as"),
        ({"dtype": "float32", "shape": (0,)}, r"must have a shape of sizes above 0, got \(0,\)"),
        ({"dtype": "image", "shape": (0, 4, 3)}, r"must have a shape of sizes above 0, got \(0, 4, 3\)"),
        ({"dtype": "float32", "shape": (2,), "names": ["x"]}, r"must have names for its 2 numbers, got \['x'\]"),
        ({"dtype": "float32", "shape": (2,), "names": {"motors": ["x", "y"]}}, "must have names for its 2 numbers"),
    ],
)
def test_features_that_no_data_set_can_have(feature, text, tmp_path):
    with pytest.raises(SettingError, match=text):
        LeRobotWriter(tmp_path / "set", rate_hz=10, features=files.FEATURES | {"x": feature})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("dtype", "values", "text"),
    [
        ("int64", np.array([0.5, 1.0]), "x must fit its feature of int64, got float64"),
        ("bool", np.array([0.5, 1.0]), "x must fit its feature of bool, got float64"),
        ("float32", np.array(["a", "b"]), "x must fit its feature of float32, got <U1"),
        ("float32", np.array([1j, 2j]), "x must fit its feature of float32, got complex128"),
    ],
)
def test_numbers_that_their_feature_would_cut_off(dtype, values, text, tmp_path):
    features = files.FEATURES | {"x": {"dtype": dtype, "shape": (1,)}}
    with LeRobotWriter(tmp_path / "set", rate_hz=10, features=features) as writer:
        with pytest.raises(DtypeError, match=text):
            writer.add_episode(np.eye(2), instruction="push", columns={"x": values})
        with pytest.raises(DtypeError, match="instruction must hold sentences only"):
            writer.add_episode(np.eye(2), instruction=["push", None], columns={"x": np.array([True, False])})
        writer.add_episode(np.eye(2), instruction="push", columns={"x": np.array([True, False])})
    assert LeRobotSource(tmp_path / "set").lengths.tolist() == [2]


@pytest.mark.parametrize(
    ("arrays", "error", "text"),
    [
        ({"columns": {"action": np.array([["a"]])}}, DtypeError, "action must hold real numbers, got <U1 in episode 0"),
        ({"columns": {"action": np.zeros((1, 1), dtype=complex)}}, DtypeError, "action must hold real numbers"),
        ({"cameras": {"top": np.zeros((1, 4, 4, 3))}}, DtypeError, r"top must be uint8 in \[0, 255\], got float64"),
        (
            {"cameras": {"top": np.zeros((1, 3, 4, 4), dtype=np.uint8)}},
            ShapeError,
            r"top must have the shape .*width, 3",
        ),
    ],
)
def test_arrays_that_are_no_episode(arrays, error, text):
    with pytest.raises(error, match=text):
        MemorySource([MemoryEpisode(**({"columns": {"action": np.zeros((1, 1))}} | arrays))])


def test_a_camera_of_hands_that_is_no_pose():
    with pytest.raises(ShapeError, match=r"camera must have the shape \(step, 4, 4\), got \(3, 3, 3\)"):
        HandRecord(left=files.track(), right=files.track(), camera=np.zeros((3, 3, 3)))


def test_a_state_that_no_loader_saved():
    with pytest.raises(CheckpointError, match=r"state_dict must hold .* got none of \['epoch_samples', 'parts'\]"):
        loader().load_state_dict({"samples": 8})


class SizesUnknown(MemorySource):
    @property
    def cameras(self) -> dict[str, CameraInfo]:
        return {"top": CameraInfo()}


def test_kept_frames_without_a_size(tmp_path):
    source = SizesUnknown([memory_episode()])
    path = tmp_path / source.fingerprint / "top.frames"
    path.parent.mkdir()
    path.write_bytes(b'{"height": 0, "width": 0}'.ljust(4096))
    with pytest.raises(DataError, match=r"top\.frames must begin with .*\. Delete the file"):
        CachedSource(source, tmp_path).images(0, "top", [0])


def test_kept_statistics_of_another_kind(tmp_path):
    cache = StatisticsCache(tmp_path)
    cache.store({"of": "x"}, {"mean": [0.5]}, location="set")
    (path,) = tmp_path.iterdir()
    edit_json(path, lambda content: content | {"statistics": ["mean"]})
    with pytest.raises(DataError, match=r"must hold statistics, got: AttributeError.*Delete the file"):
        cache.load({"of": "x"}, lambda entries: entries.items(), location="set")


def test_statistics_that_cannot_be_written(tmp_path):
    root = files.lerobot(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"path must be a file that can be written, got .*file/stats\.json"):
        write_statistics(str(root), json=str(tmp_path / "file" / "stats.json"))
