import io
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from vla_kit.data.readers.lerobot import LeRobotSource, open_lerobot
from vla_kit.data.readers.lerobot_v2 import LeRobotV2Source
from vla_kit.data.source import CameraInfo, ColumnInfo, EpisodeSource
from vla_kit.data.video_pyav import PyAVEncoder
from vla_kit.errors import DataError

VIDEO, IMAGE = "observation.images.top", "observation.images.wrist"
DATA = "data/chunk-{0:03d}/episode_{1:06d}.parquet"
CLIP = f"videos/chunk-{{0:03d}}/{VIDEO}/episode_{{1:06d}}.mp4"


def level(episode: int, frame: int) -> int:
    """Gray of a frame."""
    return 20 + 40 * episode + 10 * frame


def write_clip(path: Path, levels: list[int], rate_hz: float = 10) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with PyAVEncoder(path, rate_hz=rate_hz, height=16, width=32) as encoder:
        encoder.write(np.stack([np.full((16, 32, 3), value, dtype=np.uint8) for value in levels]))


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 6, 3), value, dtype=np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def write_lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_v2(root: Path, lengths=(5, 3, 4), *, version="v2.1", start_s=0.0, chunks_size=2) -> Path:
    """A set as lerobot 0.3 wrote them."""
    (root / "meta").mkdir(parents=True)
    scalar = {"dtype": "int64", "shape": [1], "names": None}
    features = {
        "action": {"dtype": "float32", "shape": [2], "names": {"motors": ["hip", "knee"]}},
        "next.done": {"dtype": "bool", "shape": [1], "names": None},
        VIDEO: {"dtype": "video", "shape": [3, 16, 32], "names": ["channels", "height", "width"]},
        IMAGE: {"dtype": "image", "shape": [4, 6, 3], "names": ["height", "width", "channels"]},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), scalar),
    }
    info = {
        "codebase_version": version,
        "fps": 10,
        "chunks_size": chunks_size,
        "total_episodes": len(lengths),
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": features,
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    write_lines(root / "meta/tasks.jsonl", [{"task_index": i, "task": f"Aufgabe {i} ä"} for i in range(2)])
    rows = [{"episode_index": i, "tasks": [f"Aufgabe {i % 2} ä"], "length": n} for i, n in enumerate(lengths)]
    write_lines(root / "meta/episodes.jsonl", rows)
    if version == "v2.1":
        write_lines(root / "meta/episodes_stats.jsonl", [{"episode_index": 0, "stats": {"action": {"min": [0, 0]}}}])
    for episode, length in enumerate(lengths):
        path = root / DATA.format(episode // chunks_size, episode)
        path.parent.mkdir(parents=True, exist_ok=True)
        steps = np.arange(length)
        images = [{"bytes": png(level(episode, step)), "path": None} for step in steps]
        table = {
            "action": pa.array((steps[:, None] + [100 * episode, 0.5]).tolist(), pa.list_(pa.float32())),
            "next.done": steps == length - 1,
            IMAGE: pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            "timestamp": (start_s + steps / 10).astype(np.float32),
            "frame_index": steps,
            "episode_index": np.full(length, episode),
            "index": steps + sum(lengths[:episode]),
            "task_index": np.full(length, episode % 2),
        }
        pq.write_table(pa.table(table), path)
        write_clip(root / CLIP.format(episode // chunks_size, episode), [level(episode, step) for step in steps])
    return root


def edit_table(path, change):
    table = pq.read_table(path)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    change(columns)
    pq.write_table(pa.table(columns, schema=pa.schema([table.schema.field(name) for name in columns])), path)


def edit_info(root, change):
    info = json.loads((root / "meta/info.json").read_text())
    change(info)
    (root / "meta/info.json").write_text(json.dumps(info))


def grays(frames: torch.Tensor) -> list[int]:
    return [10 * round(float(frame.float().mean()) / 10) for frame in frames]


@pytest.fixture
def root(tmp_path):
    return write_v2(tmp_path / "set")


@pytest.mark.parametrize("version", ["v2.0", "v2.1"])
def test_knows_its_set(tmp_path, version):
    source = LeRobotV2Source(write_v2(tmp_path / "set", version=version))
    assert isinstance(source, EpisodeSource)
    assert (source.name, source.rate_hz, source.lengths.tolist()) == ("set", 10.0, [5, 3, 4])
    assert source.columns["action"] == ColumnInfo(size=2, names=("hip", "knee"))
    assert source.cameras == {VIDEO: CameraInfo(height=16, width=32, video=True), IMAGE: CameraInfo(height=4, width=6)}
    assert source.episode(1).instruction == "Aufgabe 1 ä"
    assert source.episode(1).length == 3
    assert source.published_statistics == {}


def test_columns_images_and_sentences_belong_together(root):
    source = LeRobotV2Source(root)
    for episode in (2, 0, 1):
        length = int(source.lengths[episode])
        action = source.column(episode, "action")
        assert action.dtype == np.float32
        np.testing.assert_array_equal(action, np.arange(length)[:, None] + [100 * episode, 0.5])
        assert source.column(episode, "next.done")[:, 0].tolist() == [False] * (length - 1) + [True]
        wanted = [length - 1, 0, 0]
        for key in (VIDEO, IMAGE):
            assert grays(source.images(episode, key, wanted)) == [level(episode, frame) for frame in wanted]
        assert source.instruction_at(episode, 0) == f"Aufgabe {episode % 2} ä"


def test_survives_pickling(root):
    source = LeRobotV2Source(root)
    before = source.images(1, VIDEO, [2])
    assert torch.equal(pickle.loads(pickle.dumps(source)).images(1, VIDEO, [2]), before)


def test_sentence_may_change_within_an_episode(root):
    edit_table(root / DATA.format(0, 0), lambda columns: columns["task_index"].__setitem__(3, 1))
    source = LeRobotV2Source(root)
    assert [source.instruction_at(0, frame) for frame in (2, 3, 4)] == ["Aufgabe 0 ä", "Aufgabe 1 ä", "Aufgabe 0 ä"]


def test_episode_numbers_may_have_gaps(root):
    rows = [json.loads(line) for line in (root / "meta/episodes.jsonl").read_text().splitlines()]
    write_lines(root / "meta/episodes.jsonl", [rows[2], rows[0]])
    source = LeRobotV2Source(root)
    assert source.lengths.tolist() == [5, 4]
    assert source.column(1, "action")[0].tolist() == [200.0, 0.5]
    assert grays(source.images(1, VIDEO, [1])) == [level(2, 1)]


def test_files_are_found_where_info_does_not_say(root):
    edit_info(root, lambda info: info.update(data_path="data/{episode_index:03d}.parquet", video_path="{nothing}.mp4"))
    shutil.move(root / "data/chunk-001", root / "data/another folder")
    shutil.move(root / f"videos/chunk-001/{VIDEO}", root / f"videos/{VIDEO}")
    source = LeRobotV2Source(root)
    for episode in range(3):
        assert source.column(episode, "action")[0, 0] == 100 * episode
        assert grays(source.images(episode, VIDEO, [0])) == [level(episode, 0)]


def test_two_candidates_for_a_file(root):
    edit_info(root, lambda info: info.update(data_path="data/{episode_index}.parquet"))
    (root / "data/copy").mkdir()
    shutil.copyfile(root / DATA.format(0, 1), root / "data/copy/episode_000001.parquet")
    source = LeRobotV2Source(root)
    assert source.column(0, "action").shape == (5, 2)
    with pytest.raises(DataError, match=r"data must hold one file of episode_000001, got \[.*chunk-000.*copy"):
        source.column(1, "action")


def test_the_file_of_another_episode_is_refused(root):
    shutil.copyfile(root / DATA.format(0, 0), root / DATA.format(0, 1))
    with pytest.raises(DataError, match=r"episode_000001.parquet: must hold 3 rows of episode 1 in a row, got 0"):
        LeRobotV2Source(root).column(1, "action")


def test_cameras_are_those_on_disk(root):
    edit_info(root, lambda info: info["features"].update({"ghost": {"dtype": "video", "shape": [8, 8, 3]}}))
    write_clip(root / "videos/chunk-000/extra/episode_000000.mp4", [level(0, step) for step in range(5)])
    source = LeRobotV2Source(root)
    assert source.cameras["extra"] == CameraInfo(video=True)
    assert grays(source.images(0, "extra", [1])) == [level(0, 1)]
    with pytest.raises(DataError, match=r"has no camera 'ghost'. Choose one of \['extra', "):
        source.images(0, "ghost", [0])


def test_missing_files_are_named(root):
    (root / DATA.format(0, 0)).unlink()
    (root / CLIP.format(0, 1)).unlink()
    source = LeRobotV2Source(root)
    with pytest.raises(DataError, match=r"episode_000000.parquet must exist, but is missing, and there is no other"):
        source.column(0, "action")
    with pytest.raises(
        DataError, match=r"top of episode 1: .*episode_000001.mp4 must exist, .* of observation.images.top below"
    ):
        source.images(1, VIDEO, [0])
    for name in ("tasks", "episodes"):
        other = write_v2(root.parent / name)
        (other / f"meta/{name}.jsonl").unlink()
        with pytest.raises(DataError, match=rf"meta/{name}.jsonl must exist, but is missing"):
            LeRobotV2Source(other)


def test_broken_metadata_name_the_line(root):
    (root / "meta/episodes.jsonl").write_text('{"episode_index": 0, "length": 5}\n{"episode_index": 1}\n')
    with pytest.raises(DataError, match=r"episodes.jsonl must hold episode_index and length, got 1 and None in line 2"):
        LeRobotV2Source(root)
    (root / "meta/episodes.jsonl").write_text('{"episode_index": 0, "length": 5}\n{"episode_')
    with pytest.raises(DataError, match=r"episodes.jsonl must hold JSON objects, one a line"):
        LeRobotV2Source(root)
    (root / "meta/episodes.jsonl").write_text("")
    with pytest.raises(DataError, match=r"episodes.jsonl must list episodes, each once, got 0 rows"):
        LeRobotV2Source(root)


def test_broken_parquet_and_video(root):
    (root / DATA.format(0, 0)).write_bytes(b"PAR1 no")
    clip = root / CLIP.format(0, 1)
    clip.write_bytes(clip.read_bytes()[:300])
    source = LeRobotV2Source(root)
    with pytest.raises(DataError, match=r"episode_000000.parquet must be a readable parquet file"):
        source.column(0, "action")
    with pytest.raises(DataError, match=r"top of episode 1: path must be a readable video, got .*episode_000001.mp4"):
        source.images(1, VIDEO, [0])


def test_nan_and_zero_length_break_their_own_episode(root):
    edit_table(root / DATA.format(0, 1), lambda columns: columns["action"].__setitem__(2, [float("nan"), 0.0]))
    rows = [json.loads(line) for line in (root / "meta/episodes.jsonl").read_text().splitlines()]
    rows[2]["length"] = 0
    write_lines(root / "meta/episodes.jsonl", rows)
    source = LeRobotV2Source(root)
    assert source.column(0, "action").shape == (5, 2)
    with pytest.raises(DataError, match=r"action must be finite, got nan in episode 1, frame 2, channel 0"):
        source.column(1, "action")
    with pytest.raises(DataError, match=r"episode 2 must have at least one frame, got 0 in meta"):
        source.column(2, "action")


@pytest.mark.parametrize("backend", ["auto", "pyav"])
def test_video_one_frame_short(root, backend):
    write_clip(root / CLIP.format(0, 0), [level(0, step) for step in range(4)])
    source = LeRobotV2Source(root, video=backend)
    with pytest.raises(DataError, match=r"top of episode 0: .*episode_000000.mp4 must hold 5 frames, got 4"):
        source.images(0, VIDEO, [0])
    assert grays(source.images(1, VIDEO, [0])) == [level(1, 0)]


def test_longer_video_counts_from_its_beginning(root):
    write_clip(root / CLIP.format(0, 0), [level(0, step) for step in range(7)])
    assert grays(LeRobotV2Source(root).images(0, VIDEO, [0, 4])) == [level(0, 0), level(0, 4)]


def test_longer_video_whose_rows_begin_late_is_ambiguous(tmp_path):
    root = write_v2(tmp_path / "late", start_s=0.1)
    assert grays(LeRobotV2Source(root).images(0, VIDEO, [0, 4])) == [level(0, 0), level(0, 4)]
    write_clip(root / CLIP.format(0, 0), [level(0, step) for step in range(6)])
    with pytest.raises(
        DataError, match=r"must hold 5 frames, one per row, got 6, and the timestamps do not begin at 0"
    ):
        LeRobotV2Source(root).images(0, VIDEO, [0])


def test_times_that_jump(root):
    edit_table(root / DATA.format(0, 1), lambda columns: columns["timestamp"].__setitem__(2, 0.4))
    with pytest.raises(
        DataError, match=r"episode_000001.parquet: timestamp must advance by 0.1 s .* frame 2 in episode 1"
    ):
        LeRobotV2Source(root).images(1, VIDEO, [0])


def test_validity_is_no_sentence(root):
    write_lines(
        root / "meta/tasks.jsonl", [{"task_index": 0, "task": "valid"}, {"task_index": 1, "task": "lift the cup"}]
    )
    write_lines(root / "meta/episodes.jsonl", [{"episode_index": 0, "tasks": ["valid", "lift the cup"], "length": 5}])
    scalar = {"dtype": "int64", "shape": [1], "names": None}
    told, judged = "annotation.human.action.task_description", "annotation.human.validity"
    edit_info(root, lambda info: info["features"].update({told: scalar, judged: scalar}))
    table = pq.read_table(root / DATA.format(0, 0))
    table = table.append_column(told, pa.array([1] * 5)).append_column(judged, pa.array([0] * 5))
    pq.write_table(table, root / DATA.format(0, 0))
    source = LeRobotV2Source(root)  # task_index says 0, which is "valid"
    assert source.instruction_at(0, 0) == "lift the cup"
    assert source.episode(0).instructions == ("lift the cup",)
    assert LeRobotV2Source(root, language="task_index").instruction_at(0, 0) == "valid"


def test_a_set_without_language(root):
    (root / "meta/tasks.jsonl").unlink()
    edit_info(root, lambda info: info["features"].pop("task_index"))
    write_lines(root / "meta/episodes.jsonl", [{"episode_index": 0, "length": 5}])
    source = LeRobotV2Source(root)
    assert source.instruction_at(0, 4) == ""
    assert source.episode(0).instruction == ""


def test_path_with_spaces_and_letters_of_all_kinds(tmp_path):
    source = LeRobotV2Source(write_v2(tmp_path / "Käse & brötchen {0} 机器人"))
    assert grays(source.images(2, VIDEO, [3])) == [level(2, 3)]
    assert source.column(2, "action").shape == (4, 2)


def test_fingerprint_follows_the_data_not_the_place(root, tmp_path):
    before = LeRobotV2Source(root).fingerprint
    shutil.copytree(root, tmp_path / "copy")
    assert LeRobotV2Source(tmp_path / "copy").fingerprint == before
    edit_table(root / DATA.format(0, 1), lambda columns: columns["action"].__setitem__(2, [9.0, 0.0]))
    assert LeRobotV2Source(root).fingerprint != before


def test_version_is_told_apart(root, write_set):
    assert isinstance(open_lerobot(root), LeRobotV2Source)
    assert isinstance(open_lerobot(write_set("new")[0]), LeRobotSource)
    with pytest.raises(DataError, match=r"codebase_version must be v2.0 or v2.1, got v3.0. .*open_lerobot"):
        LeRobotV2Source(write_set("other")[0])
    edit_info(root, lambda info: info.update(codebase_version="v1.6"))
    with pytest.raises(DataError, match=r"codebase_version must be v2.0, v2.1 or v3.0, got v1.6"):
        open_lerobot(root)


def test_gr1(shared_data):
    source = open_lerobot(shared_data / "groot_gr1_pnp")
    key = "observation.images.ego_view"
    assert source.lengths.tolist() == [416, 470, 470, 412, 328]
    assert source.rate_hz == 20.0
    assert list(source.cameras) == [key]
    assert source.columns["action"].size == 44
    assert source.column(0, "action").dtype == np.float64
    assert source.column(4, "next.done").dtype == bool
    foods = ["pear", "sweet potato", "meat", "salt", "cupcake"]
    for episode, food in enumerate(foods):
        sentence = f"pick the {food} from the counter and place it in the plate"
        assert source.episode(episode).instructions == (sentence,)
        assert source.instruction_at(episode, 300) == sentence
        last = int(source.lengths[episode]) - 1
        assert source.images(episode, key, [last, 0]).shape == (2, 3, 256, 256)
    actions = np.concatenate([source.column(episode, "action") for episode in range(5)])
    for name, share in (("q01", 0.01), ("q99", 0.99)):
        claimed = source.published_statistics["action"][name]
        np.testing.assert_allclose(np.quantile(actions, share, axis=0), claimed, atol=1e-6)
