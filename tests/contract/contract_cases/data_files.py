"""How the readers and writers of `vla_kit.data` are called, each on a small data set that is written for the call."""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from contract_cases.data import source
from contract_cases.probe import Case
from tfrecord.writer import TFRecordWriter

from vla_kit.actions import EigengraspBasis
from vla_kit.data.conversion import write_lerobot
from vla_kit.data.eigengrasp_file import load_eigengrasps, save_eigengrasps
from vla_kit.data.fingerprint import fingerprint_files
from vla_kit.data.frame_cache import CachedSource
from vla_kit.data.hand_grasps import write_eigengrasps
from vla_kit.data.lerobot_layout import read_table
from vla_kit.data.lerobot_merge import merge_lerobot
from vla_kit.data.lerobot_stats import ColumnStatistics
from vla_kit.data.lerobot_writer import LeRobotWriter
from vla_kit.data.readers.egodex import is_egodex, open_egodex, read_egodex
from vla_kit.data.readers.hand_source import HandEpisode, HandSource
from vla_kit.data.readers.hand_tracks import HandRecord, HandTrack
from vla_kit.data.readers.hdf5 import open_hdf5
from vla_kit.data.readers.hdf5_aloha import open_aloha
from vla_kit.data.readers.hdf5_source import HDF5Episode, HDF5Source
from vla_kit.data.readers.hot3d import is_hot3d, open_hot3d, read_hot3d
from vla_kit.data.readers.lerobot import LeRobotSource, open_lerobot
from vla_kit.data.readers.lerobot_v2 import LeRobotV2Source
from vla_kit.data.readers.matterport import NavigationGraph, read_connectivity
from vla_kit.data.readers.open import open_source
from vla_kit.data.readers.rlds import RLDSSource
from vla_kit.data.readers.vitra import is_vitra, open_vitra, read_vitra, vitra_chain_error
from vla_kit.data.readers.vln import read_vln
from vla_kit.data.readers.vln_ce import read_vln_ce
from vla_kit.data.readers.vln_ce_source import open_vln_ce
from vla_kit.data.set_blocks import check_set_blocks
from vla_kit.data.statistics.cache import StatisticsCache
from vla_kit.data.video import open_video
from vla_kit.data.video_pyav import PyAVDecoder, PyAVEncoder
from vla_kit.data.whole_file import write_atomically, write_whole

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "data"))
from hand_files import write_egodex, write_hot3d, write_vitra

FEATURES = {"action": {"dtype": "float32", "shape": (2,)}}


def lerobot(folder: Path) -> Path:
    with LeRobotWriter(folder / "v3", rate_hz=10, features=FEATURES) as writer:
        writer.add_episode(np.eye(2, dtype=np.float32), instruction="push")
    return folder / "v3"


def lerobot_v2(folder: Path) -> Path:
    root = folder / "v2"
    (root / "meta").mkdir(parents=True)
    (root / "data/chunk-000").mkdir(parents=True)
    scalar = {"dtype": "int64", "shape": [1], "names": None}
    features = {"action": {"dtype": "float32", "shape": [2], "names": None}, "task_index": scalar}
    info = {"codebase_version": "v2.1", "fps": 10, "features": features}
    (root / "meta/info.json").write_text(json.dumps(info))
    (root / "meta/tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "push"}) + "\n")
    (root / "meta/episodes.jsonl").write_text(json.dumps({"episode_index": 0, "tasks": ["push"], "length": 2}) + "\n")
    rows = {"action": pa.array([[0.0, 1.0], [1.0, 0.0]], pa.list_(pa.float32())), "task_index": [0, 0]}
    pq.write_table(pa.table(rows), root / "data/chunk-000/episode_000000.parquet")
    return root


def rlds(folder: Path) -> Path:
    root = folder / "rlds"
    root.mkdir()
    tensor = {"tensor": {"shape": {"dimensions": ["2"]}, "dtype": "float32", "encoding": "none"}}
    steps = {"featuresDict": {"features": {"action": tensor, "language_instruction": {"text": {}}}}}
    episode = {"featuresDict": {"features": {"steps": {"sequence": {"feature": steps}}}}}
    (root / "features.json").write_text(json.dumps(episode))
    writer = TFRecordWriter(str(root / "toy-train.tfrecord-00000-of-00001"))
    told = ([b"push", b"push"], "byte")
    writer.write({"steps/action": ([0.0, 1.0, 2.0, 3.0], "float"), "steps/language_instruction": told})
    writer.close()
    return root


def aloha(folder: Path) -> Path:
    path = folder / "episode_0.hdf5"
    with h5py.File(path, "w") as file:
        file["action"] = np.zeros((3, 14))
        file["observations/qpos"] = np.zeros((3, 14))
    return path


def egodex(folder: Path) -> Path:
    write_egodex(folder / "0.hdf5")
    return folder / "0.hdf5"


def hot3d(folder: Path) -> Path:
    write_hot3d(folder / "P0001")
    return folder / "P0001" / "mano_hand_pose_trajectory.jsonl"


def vitra(folder: Path) -> Path:
    write_vitra(folder / "a.npz")
    return folder / "a.npz"


def hand_basis(count: int = 10) -> EigengraspBasis:
    return EigengraspBasis(torch.zeros(45), torch.eye(45)[:count])


def basis_file(folder: Path, count: int = 10) -> str:
    save_eigengrasps(hand_basis(count), folder / f"{count}.safetensors")
    return str(folder / f"{count}.safetensors")


def track() -> HandTrack:
    return HandTrack(**track_arguments(Path()))


def track_arguments(_: Path) -> dict[str, Any]:
    return {"wrist": np.tile(np.eye(4), (3, 1, 1)), "fingers": np.zeros((3, 45)), "seen": np.array([True, True, False])}


def hand_record(_: Path) -> HandRecord:
    return HandRecord(left=track(), right=track(), camera=np.tile(np.eye(4), (3, 1, 1)))


def video(folder: Path) -> Path:
    with PyAVEncoder(folder / "clip.mp4", rate_hz=10, height=16, width=16) as encoder:
        encoder.write(np.zeros((3, 16, 16, 3), dtype=np.uint8))
    return folder / "clip.mp4"


def json_file(folder: Path, name: str, content: Any) -> Path:
    text = json.dumps(content).encode()
    (folder / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return folder / name


def r2r(folder: Path) -> Path:
    row = {"scan": "s", "path_id": 1, "path": ["a", "b"], "heading": 0.5, "instructions": ["Go."]}
    return json_file(folder, "R2R_train.json", [row])


def vln_ce_row() -> dict[str, Any]:
    return {
        "episode_id": 1,
        "scene_id": "mp3d/s/s.glb",
        "start_position": [0.0, 0.0, 0.0],
        "start_rotation": [0.0, 0.0, 0.0, 1.0],
        "goals": [{"position": [1.0, 0.0, 0.0], "radius": 3.0}],
        "instruction": {"instruction_text": "Go.", "language": "en-US"},
        "reference_path": [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]],
    }


def vln_ce(folder: Path) -> Path:
    json_file(folder, "train_gt.json.gz", {"1": {"actions": [1, 0], "locations": [[0.0, 0.0, 0.0], [0.25, 0.0, 0.0]]}})
    return json_file(folder, "train.json.gz", {"episodes": [vln_ce_row()]})


def connectivity(folder: Path) -> Path:
    pose = [1, 0, 0, 0.5, 0, 1, 0, 0.5, 0, 0, 1, 1.5, 0, 0, 0, 1]
    row = {"image_id": "a", "pose": pose, "included": True, "unobstructed": [False]}
    return json_file(folder, "s_connectivity.json", [row])


def yaml_file(folder: Path) -> Path:
    (folder / "lab.yaml").write_text("data: {init_args: {sets: [{root: data/lab, embodiment: ur5}]}}")
    return folder / "lab.yaml"


def one_of_hdf5(path: Path, group: str, instruction: str) -> None:
    """`HDF5Source` checks what an `HDF5Episode` names."""
    HDF5Source([HDF5Episode(path=path, group=group, instruction=instruction, rows_upward=False)], root=path)


def hot3d_options(folder: Path) -> dict[str, Any]:
    root = hot3d(folder).parent
    return {
        "root": root,
        "mano": basis_file(folder, 15),
        "mano_left": basis_file(folder, 15),
        "name": "hot3d",
        "basis": basis_file(folder),
    }


def new(argument: str) -> dict[str, tuple[str, ...]]:
    """What `meant` says of a place that is created."""
    return {argument: ("missing",)}


CASES = [
    Case(
        write_lerobot,
        lambda folder: {
            "source": source(),
            "out": folder / "set",
            "episodes": [0],
            "cameras": "image",
            "rate_hz": 10.0,
            "robot_type": "arm",
            "keys": {"state": "observation.state"},
            "executor": None,
            "block_frames": 100,
        },
        meant=new("out") | {"keys": ("empty",), "robot_type": ("empty",)},  # none; kept as it is
        named={"episodes": "episode"},
    ),
    Case(load_eigengrasps, lambda folder: {"path": Path(basis_file(folder))}),
    Case(save_eigengrasps, lambda folder: {"basis": hand_basis(), "path": folder / "b.safetensors"}, meant=new("path")),
    Case(
        fingerprint_files,
        lambda folder: {"root": folder, "paths": [yaml_file(folder)], "whole": lambda path: True},
        meant={"paths": ("empty",)},  # nothing has a digest too
    ),
    Case(
        CachedSource,
        lambda folder: {"source": source(), "folder": folder, "max_gigabytes": 1.0},
        meant=new("folder") | {"max_gigabytes": ("inf",)},  # no limit
    ),
    Case(
        read_table,
        lambda folder: {"path": lerobot(folder) / "meta/tasks.parquet", "columns": ["task_index"]},
        meant={"columns": ("empty",)},  # of none
        named={"path": "no such place"},
    ),
    Case(
        merge_lerobot,
        lambda folder: {"roots": [lerobot(folder)], "out": folder / "both", "statistics": {"action": {}}},
        meant=new("out") | {"statistics": ("empty",)},  # none is known
    ),
    Case(ColumnStatistics, lambda folder: {"exact_bytes": 100}, meant={"exact_bytes": ("0",)}),  # keep nothing
    Case(
        LeRobotWriter,
        lambda folder: {"root": folder / "set", "rate_hz": 10.0, "features": FEATURES, "robot_type": "arm"},
        meant=new("root") | {"robot_type": ("empty",)},  # kept as it is
    ),
    Case(
        is_egodex,
        lambda folder: {"path": egodex(folder)},
        meant={"path": ("missing",)},  # it is not
    ),
    Case(is_hot3d, lambda folder: {"path": hot3d(folder).parent}, meant={"path": ("missing",)}),
    Case(is_vitra, lambda folder: {"path": vitra(folder)}, meant={"path": ("missing",)}),
    Case(
        open_egodex,
        lambda folder: {"root": egodex(folder), "name": "hands", "basis": basis_file(folder), "confidence": 0.5},
        named={"basis": "save_eigengrasps"},
    ),
    Case(
        read_egodex,
        lambda folder: {"path": egodex(folder), "confidence": 0.5},
        named={"path": "no such place"},
    ),
    Case(
        HandEpisode,
        lambda folder: {
            "path": vitra(folder),
            "length": 8,
            "sentences": (("wave", 0, 8),),
            "video": folder / "clip.mp4",
            "first_frame": 2,
        },
        meant={
            "path": ("missing",),  # files are looked at when they are read
            "video": ("missing",),
            "length": ("0",),
            "sentences": ("empty",),  # nobody spoke
            "first_frame": ("0",),
        },
    ),
    Case(
        HandSource,
        lambda folder: {
            "episodes": [HandEpisode(path=folder / "a.npz", length=3)],
            "load": hand_record,
            "root": folder,
            "name": "hands",
            "rate_hz": 30.0,
            "basis": None,
            "has_camera": True,
        },
        meant={"root": ("missing",)},  # for names and messages
        named={"episodes": "episode"},
    ),
    Case(
        HandTrack,
        track_arguments,
        meant={"wrist": ("nan",), "fingers": ("nan",)},  # the hand is lost
        named={"seen": "wrist"},
    ),
    Case(
        HandRecord,
        lambda folder: {"left": track(), "right": track(), "camera": np.tile(np.eye(4), (3, 1, 1))},
    ),
    Case(open_hdf5, lambda folder: {"root": aloha(folder), "name": "aloha", "channels": "rgb"}),
    Case(open_aloha, lambda folder: {"root": aloha(folder), "name": "aloha", "channels": "rgb"}),
    Case(
        HDF5Source,
        lambda folder: {
            "episodes": [HDF5Episode(path=aloha(folder), group="/")],
            "root": folder / "episode_0.hdf5",
            "name": "aloha",
            "rate_hz": 50.0,
            "channels": "rgb",
        },
        meant={"root": ("missing",)},  # for names and messages
        named={"episodes": "episode"},
    ),
    Case(
        one_of_hdf5,
        lambda folder: {"path": aloha(folder), "group": "/", "instruction": "push"},
        meant={"instruction": ("empty",)},  # the file does not say
        named={"path": "no such place"},
    ),
    Case(open_hot3d, hot3d_options, named={"basis": "save_eigengrasps"} | dict.fromkeys(("mano", "mano_left"), "path")),
    Case(
        read_hot3d,
        lambda folder: {
            "path": hot3d(folder),
            "mano": {"left": hand_basis(15), "right": hand_basis(15)},
            "with_camera": True,
        },
        named={"path": "no such place"},
    ),
    Case(
        LeRobotSource,
        lambda folder: {
            "root": lerobot(folder),
            "name": "set",
            "video": "pyav",
            "language": "task_index",
            "tolerance_s": 1e-4,
        },
    ),
    Case(
        open_lerobot,
        lambda folder: {
            "root": lerobot(folder),
            "name": "set",
            "video": "pyav",
            "language": "task_index",
            "tolerance_s": 1e-4,
        },
        left={"revision": "for the hub alone, which tests do not reach"},
    ),
    Case(
        LeRobotV2Source,
        lambda folder: {
            "root": lerobot_v2(folder),
            "name": "set",
            "video": "pyav",
            "language": "task_index",
            "tolerance_s": 1e-4,
        },
    ),
    Case(
        NavigationGraph,
        lambda folder: {
            "scan": "s",
            "positions": {"a": np.zeros(3), "b": np.ones(3)},
            "neighbours": {"a": ["b"]},
            "without_position": ["c"],
        },
        meant={
            "scan": ("empty",),  # for messages alone
            "neighbours": ("empty",),  # no ways
            "without_position": ("empty",),  # all have one
        },
    ),
    Case(read_connectivity, lambda folder: {"path": connectivity(folder)}, named={"path": "no such place"}),
    Case(
        open_source,
        lambda folder: {"root": lerobot(folder), "name": "set", "options": {"video": "pyav"}},
        meant={"options": ("empty",)},
    ),
    Case(
        RLDSSource,
        lambda folder: {"root": rlds(folder), "name": "toy", "split": "train"},
        named={"root": "no such place"},
    ),
    Case(
        open_vitra,
        lambda folder: {
            "root": vitra(folder),
            "name": "hands",
            "basis": basis_file(folder),
            "videos": str(video(folder).parent),
        },
        named={"root": "no such place", "basis": "save_eigengrasps"},
    ),
    Case(read_vitra, lambda folder: {"path": vitra(folder)}, named={"path": "no such place"}),
    Case(vitra_chain_error, lambda folder: {"path": vitra(folder)}, named={"path": "no such place"}),
    Case(read_vln, lambda folder: {"path": r2r(folder), "language": "en"}, named={"path": "no such place"}),
    Case(
        read_vln_ce,
        lambda folder: {"path": vln_ce(folder), "ground_truth": folder / "train_gt.json.gz", "language": "en"},
        named={"path": "no such place", "ground_truth": "no such place"},
    ),
    Case(
        open_vln_ce,
        lambda folder: {
            "root": vln_ce(folder),
            "name": "train",
            "ground_truth": str(folder / "train_gt.json.gz"),
            "language": "en",
            "turn_degrees": 15.0,
        },
        named={"root": "no such place"},
    ),
    Case(check_set_blocks, lambda folder: {"path": yaml_file(folder)}, meant={"path": ("missing",)}),  # the CLI's error
    Case(StatisticsCache, lambda folder: {"folder": folder}, meant=new("folder")),
    Case(open_video, lambda folder: {"path": video(folder), "backend": "pyav", "rate_hz": 10.0}),
    Case(PyAVDecoder, lambda folder: {"path": video(folder), "rate_hz": 10.0}),
    Case(
        PyAVEncoder,
        lambda folder: {
            "path": folder / "clip.mp4",
            "rate_hz": 10.0,
            "height": 16,
            "width": 16,
            "crf": 18,
            "keyframe_interval": 2,
        },
        meant={"crf": ("0",)},  # lossless
    ),
    Case(
        write_atomically,
        lambda folder: {"path": folder / "a.txt", "text": "done"},
        meant=new("path") | {"text": ("empty",)},
    ),
    Case(
        write_whole,
        lambda folder: {"path": folder / "a.txt", "text": "done"},
        meant=new("path") | {"text": ("empty",)},
    ),
    Case(
        write_eigengrasps,
        lambda folder: {"path": str(folder / "basis.safetensors"), "sets": [str(egodex(folder))], "count": 3},
    ),
]

WITHOUT_CASE = {
    "vla_kit.data.readers.hdf5_source.HDF5Episode": "HDF5Source checks it: see one_of_hdf5",
    "vla_kit.data.readers.vln.GraphRoute": "what read_vln answers",
    "vla_kit.data.readers.vln_ce.ContinuousRoute": "what read_vln_ce answers",
    "vla_kit.data.whole_file.written_beside": "writes within write_whole and save_eigengrasps, which are tried",
}
