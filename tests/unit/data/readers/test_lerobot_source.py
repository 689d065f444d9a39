import io
import json
import pickle
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from vla_kit.data.lerobot_writer import LeRobotWriter
from vla_kit.data.readers._shared_cache import DECODERS
from vla_kit.data.readers.lerobot import LeRobotSource
from vla_kit.data.source import CameraInfo, ColumnInfo, EpisodeSource
from vla_kit.errors import DataError

VIDEO, IMAGE, STATE = "observation.images.top", "observation.images.wrist", "observation.state"
DATA, EPISODES = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"


def edit_table(path, change, *, row_group_size=None):
    """Rewrite a parquet file after `change` edited its columns."""
    table = pq.read_table(path)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    change(columns)
    kept = pa.schema([field for field in table.schema if field.name in columns])
    table = pa.table(columns, schema=kept if set(columns) <= set(kept.names) else None)
    pq.write_table(table, path, row_group_size=row_group_size)


def edit_info(root, change):
    info = json.loads((root / "meta/info.json").read_text())
    change(info)
    (root / "meta/info.json").write_text(json.dumps(info))


def test_satisfies_the_protocol_and_knows_its_set(write_set):
    root, _ = write_set()
    source = LeRobotSource(root)
    assert isinstance(source, EpisodeSource)
    assert (source.name, source.location, source.rate_hz) == ("set", str(root), 10.0)
    assert source.lengths.tolist() == [5, 1, 7]
    assert source.columns["action"] == ColumnInfo(size=3, names=("x", "y", "grip"))
    assert source.columns["task_index"] == ColumnInfo(size=1)
    assert source.cameras == {
        VIDEO: CameraInfo(height=32, width=48, video=True),
        IMAGE: CameraInfo(height=8, width=10),
    }
    assert (source.episode(1).length, source.episode(1).instructions) == (1, ("task 1",))
    assert source.episode(2).seed == 2
    assert source.tasks == {0: "task 0", 1: "task 1"}
    assert LeRobotSource(root, name="other").name == "other"


def test_columns_are_bit_identical_and_copies(write_set):
    root, episodes = write_set()
    source = LeRobotSource(root)
    for index, episode in enumerate(episodes):
        for key in ("action", STATE):
            values = source.column(index, key)
            np.testing.assert_array_equal(values, episode[key])
            assert values.dtype == episode[key].dtype
            values[:] = 7
            np.testing.assert_array_equal(source.column(index, key), episode[key])
    assert source.column(2, "frame_index")[:, 0].tolist() == list(range(7))


@pytest.mark.parametrize("row_group_size", [None, 1, 2, 100])
def test_row_groups_of_any_size(write_set, row_group_size):
    root, episodes = write_set()
    expected = LeRobotSource(root).images(2, IMAGE, [6, 0, 3])
    edit_table(root / DATA, lambda columns: None, row_group_size=row_group_size)
    source = LeRobotSource(root)
    for index, episode in enumerate(episodes):
        np.testing.assert_array_equal(source.column(index, "action"), episode["action"])
    assert torch.equal(source.images(2, IMAGE, [6, 0, 3]), expected)


def test_images_are_exact_and_videos_close(write_set):
    root, episodes = write_set()
    source = LeRobotSource(root)
    for index in (2, 0, 1):
        last = len(episodes[index]["action"]) - 1
        wrist = source.images(index, IMAGE, [last, 0, 0])
        assert (wrist.dtype, wrist.is_contiguous()) == (torch.uint8, True)
        np.testing.assert_array_equal(wrist.permute(0, 2, 3, 1), episodes[index][IMAGE][[last, 0, 0]])
        top = source.images(index, VIDEO, [last, 0, 0]).permute(0, 2, 3, 1).numpy().astype(int)
        assert np.abs(top - episodes[index][VIDEO][[last, 0, 0]]).mean() < 3


def test_both_decoders_give_the_same_video(write_set):
    root, _ = write_set()
    ours, theirs = (LeRobotSource(root, video=backend).images(2, VIDEO, range(7)) for backend in ("auto", "pyav"))
    assert (ours.int() - theirs.int()).abs().max() <= 3


def test_no_frames_asked_for(write_set):
    root, _ = write_set()
    assert LeRobotSource(root).images(0, VIDEO, []).shape == (0, 3, 32, 48)


def test_images_beside_the_data_file(write_set, tmp_path):
    root, _ = write_set()
    first = LeRobotSource(root).images(1, IMAGE, [0])
    stored = pq.read_table(root / DATA)[IMAGE].to_pylist()[5]["bytes"]
    (root / "images").mkdir()
    (root / "images/frame 5.png").write_bytes(stored)
    entry = {"bytes": None, "path": "images/frame 5.png"}
    edit_table(root / DATA, lambda columns: columns[IMAGE].__setitem__(5, entry))
    assert torch.equal(LeRobotSource(root).images(1, IMAGE, [0]), first)
    (root / "images/frame 5.png").unlink()
    with pytest.raises(DataError, match=r"wrist of episode 1, frame 0 must exist at .*frame 5.png"):
        LeRobotSource(root).images(1, IMAGE, [0])


def test_survives_pickling_with_open_files(write_set):
    root, _ = write_set()
    source = LeRobotSource(root)
    for key in (VIDEO, IMAGE):
        before = source.images(0, key, [1])
        assert torch.equal(pickle.loads(pickle.dumps(source)).images(0, key, [1]), before)


def test_data_workers_read_the_same_frames(write_set):
    root, _ = write_set()
    source = LeRobotSource(root)
    expected = source.images(2, VIDEO, [3])  # the parent holds the file open before it forks
    loader = torch.utils.data.DataLoader(_Frames(source), batch_size=None, num_workers=1)
    assert torch.equal(next(iter(loader)), expected)


class _Frames(torch.utils.data.Dataset):
    def __init__(self, source):
        self.source = source

    def __len__(self):
        return 1

    def __getitem__(self, item):
        return self.source.images(2, VIDEO, [3])


def test_open_files_go_with_their_source(write_set):
    root, _ = write_set()
    before = len(DECODERS)
    source = LeRobotSource(root)
    source.images(0, VIDEO, [0])
    assert len(DECODERS) == before + 1
    del source
    assert len(DECODERS) == before


def test_numbers_need_no_cameras(write_set):
    root, episodes = write_set()
    shutil.rmtree(root / "videos")
    np.testing.assert_array_equal(LeRobotSource(root).column(0, "action"), episodes[0]["action"])


def test_instruction_of_a_frame_follows_task_index(write_set):
    root, _ = write_set()
    edit_table(root / DATA, lambda columns: columns["task_index"].__setitem__(4, 1))
    source = LeRobotSource(root)
    assert [source.instruction_at(0, frame) for frame in (3, 4)] == ["task 0", "task 1"]
    assert source.instruction_at(1, 0) == "task 1"


def test_language_in_a_column_of_texts(write_set):
    root, _ = write_set()
    texts = [f"words of row {row}" for row in range(13)]
    table = pq.read_table(root / DATA).append_column("annotation.speech", pa.array(texts))
    pq.write_table(table, root / DATA)
    edit_info(root, lambda info: info["features"].update({"annotation.speech": {"dtype": "string", "shape": [1]}}))
    source = LeRobotSource(root, language="annotation.speech")
    assert source.instruction_at(2, 1) == "words of row 7"
    assert "annotation.speech" not in source.columns
    assert LeRobotSource(root).instruction_at(2, 1) == "task 0"
    with pytest.raises(
        DataError, match=r"language must be a column of task indices or texts of .*info.json, got 'action'"
    ):
        LeRobotSource(root, language="action")


def test_matrices_count_as_flat(tmp_path):
    with LeRobotWriter(
        tmp_path / "set", rate_hz=10, features={"action": {"dtype": "float64", "shape": (4,)}}
    ) as writer:
        writer.add_episode(np.arange(8.0).reshape(2, 4), instruction="go")
    table = pq.read_table(tmp_path / "set" / DATA)
    nested = pa.array([[[0.0, 1.0], [2.0, 3.0]], [[4.0, 5.0], [6.0, 7.0]]], pa.list_(pa.list_(pa.float64())))
    pq.write_table(table.set_column(0, "action", nested), tmp_path / "set" / DATA)
    edit_info(tmp_path / "set", lambda info: info["features"]["action"].update(shape=[2, 2]))
    source = LeRobotSource(tmp_path / "set")
    assert source.columns["action"].size == 4
    np.testing.assert_array_equal(source.column(0, "action"), np.arange(8.0).reshape(2, 4))


def test_bools_and_integers_keep_their_dtype(tmp_path):
    features = {
        "action": {"dtype": "float64", "shape": (1,)},
        "next.done": {"dtype": "bool", "shape": (1,)},
        "counts": {"dtype": "int32", "shape": (2,)},
    }
    with LeRobotWriter(tmp_path / "set", rate_hz=10, features=features) as writer:
        done, counts = np.array([[False], [True]]), np.array([[1, 2], [3, 4]], dtype=np.int32)
        writer.add_episode(np.ones((2, 1)), instruction="go", columns={"next.done": done, "counts": counts})
    source = LeRobotSource(tmp_path / "set")
    for key, values in (("next.done", done), ("counts", counts), ("action", np.ones((2, 1)))):
        np.testing.assert_array_equal(source.column(0, key), values)
        assert source.column(0, key).dtype == values.dtype


def test_path_with_spaces_and_letters_of_all_kinds(write_set, tmp_path):
    root, episodes = write_set()
    shutil.move(root, tmp_path / "Käse & brötchen 机器人")
    source = LeRobotSource(tmp_path / "Käse & brötchen 机器人")
    np.testing.assert_array_equal(source.column(2, "action"), episodes[2]["action"])
    assert source.images(2, VIDEO, [3]).shape == (1, 3, 32, 48)
    assert source.name == "Käse & brötchen 机器人"


def test_read_only_folder_stays_as_it_is(write_set):
    root, _ = write_set()
    places = [root, *root.rglob("*")]
    for path in places:
        path.chmod(0o555 if path.is_dir() else 0o444)
    source = LeRobotSource(root)
    for index in range(3):
        source.column(index, "action")
        source.images(index, VIDEO, [0])
    assert source.fingerprint
    assert source.published_statistics
    assert [root, *root.rglob("*")] == places
    for path in places:
        path.chmod(0o755)


def test_fingerprint_follows_the_data_not_the_place(write_set, tmp_path):
    root, _ = write_set()
    other, _ = write_set("other", seed=5)
    before = LeRobotSource(root).fingerprint
    (root / ".vla_kit").mkdir()
    (root / ".vla_kit/statistics.json").write_text("{}")
    assert LeRobotSource(root).fingerprint == before
    shutil.copytree(root, tmp_path / "copy")
    assert LeRobotSource(tmp_path / "copy").fingerprint == before
    assert LeRobotSource(other).fingerprint != before
    edit_info(root, lambda info: info.update(robot_type="another"))
    assert LeRobotSource(root).fingerprint != before


def test_published_statistics_are_what_the_set_claims(write_set):
    root, episodes = write_set()
    claimed = LeRobotSource(root).published_statistics["action"]
    actions = np.concatenate([episode["action"] for episode in episodes])
    np.testing.assert_allclose(claimed["q99"], np.quantile(actions.astype(float), 0.99, axis=0), rtol=1e-6)
    (root / "meta/stats.json").write_text("[")
    with pytest.raises(DataError, match=r"stats.json must be JSON"):
        _ = LeRobotSource(root).published_statistics
    (root / "meta/stats.json").unlink()
    assert LeRobotSource(root).published_statistics == {}


def test_info_names_a_path_that_does_not_exist(write_set):
    root, episodes = write_set()
    edit_info(root, lambda info: info.update(data_path="data/{episode_chunk}/x.parquet", video_path="clips/x.mp4"))
    source = LeRobotSource(root)
    np.testing.assert_array_equal(source.column(0, "action"), episodes[0]["action"])
    assert len(source.images(0, VIDEO, [0])) == 1


def test_set_of_another_layout(write_set, tmp_path):
    with pytest.raises(DataError, match=r"root must be a folder of the LeRobot layout, got .*nowhere"):
        LeRobotSource(tmp_path / "nowhere")
    root, _ = write_set()
    edit_info(root, lambda info: info.update(codebase_version="v2.1"))
    with pytest.raises(DataError, match=r"info.json: codebase_version must be v3.0, got v2.1. .*open_lerobot"):
        LeRobotSource(root)
    edit_info(root, lambda info: info.update(fps=0))
    with pytest.raises(DataError, match=r"info.json: fps must be above 0, got 0"):
        LeRobotSource(root)
    edit_info(root, lambda info: info["features"].update(action={"shape": [3]}))
    with pytest.raises(DataError, match=r"features must have a dtype, got none for \['action'\]"):
        LeRobotSource(root)
    (root / "meta/info.json").write_text("{")
    with pytest.raises(DataError, match=r"info.json must be JSON"):
        LeRobotSource(root)
    (root / "meta/info.json").write_text('{"fps": 10}')
    with pytest.raises(DataError, match=r"info.json must hold \['codebase_version', 'features', 'fps'\]"):
        LeRobotSource(root)


def test_unknown_keys_list_the_known_ones(write_set):
    root, _ = write_set()
    source = LeRobotSource(root)
    with pytest.raises(DataError, match=r"has no column 'reward'. Choose one of \['action', "):
        source.column(0, "reward")
    with pytest.raises(DataError, match=rf"has no camera 'cam'. Choose one of \['{VIDEO}'"):
        source.images(0, "cam", [0])


def test_column_that_only_info_knows(write_set):
    root, _ = write_set()
    edit_info(root, lambda info: info["features"].update(reward={"dtype": "float32", "shape": [1]}))
    with pytest.raises(DataError, match=r"file-000.parquet must hold the column 'reward'"):
        LeRobotSource(root).column(0, "reward")


@pytest.mark.parametrize("missing", ["meta/tasks.parquet", EPISODES, DATA])
def test_missing_files_are_named(write_set, missing):
    root, _ = write_set()
    (root / missing).unlink()
    with pytest.raises(DataError, match=missing.split("/")[0]):
        LeRobotSource(root).column(0, "action")


def test_broken_data_file_is_named(write_set):
    root, _ = write_set()
    (root / DATA).write_bytes((root / DATA).read_bytes()[:500])
    with pytest.raises(DataError, match=r"file-000.parquet must be a readable parquet file"):
        LeRobotSource(root).column(0, "action")


def test_indices_outside(write_set):
    root, _ = write_set()
    source = LeRobotSource(root)
    for read in (source.episode, lambda index: source.column(index, "action"), lambda i: source.instruction_at(i, 0)):
        for index in (3, -1):
            with pytest.raises(DataError, match=rf"index must be an episode of .* in \[0, 3\), got {index}"):
                read(index)
    with pytest.raises(DataError, match=r"frame must lie in \[0, 5\) in episode 0 of .*, got 5"):
        source.images(0, IMAGE, [5])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_breaks_its_own_episode_alone(write_set, value):
    root, episodes = write_set()
    edit_table(root / DATA, lambda columns: columns["action"].__setitem__(8, [0.0, value, 0.0]))
    source = LeRobotSource(root)
    np.testing.assert_array_equal(source.column(0, "action"), episodes[0]["action"])
    with pytest.raises(
        DataError, match=rf"parquet: action must be finite, got {value} in episode 2, frame 2, channel 1"
    ):
        source.column(2, "action")
    np.testing.assert_array_equal(source.column(2, STATE), episodes[2][STATE])


def test_nulls_break_their_own_episode_alone(write_set):
    root, episodes = write_set()
    table = pq.read_table(root / DATA)
    rows = table["action"].to_pylist()
    rows[5], rows[7] = None, [0.0, None, 0.0]
    place = table.schema.get_field_index("action")
    pq.write_table(table.set_column(place, "action", pa.array(rows, pa.list_(pa.float32()))), root / DATA)
    source = LeRobotSource(root)
    np.testing.assert_array_equal(source.column(0, "action"), episodes[0]["action"])
    with pytest.raises(DataError, match=r"action must have 3 entries per step, .* got 1 in episode 1, frame 0"):
        source.column(1, "action")
    with pytest.raises(DataError, match=r"action must hold numbers only, got null in episode 2, frame 1"):
        source.column(2, "action")


def test_wrong_width_names_both(write_set):
    root, _ = write_set()
    edit_info(root, lambda info: info["features"]["action"].update(shape=[4], names=None))
    with pytest.raises(DataError, match=r"action must have 4 entries per step, .* got 3"):
        LeRobotSource(root).column(0, "action")


def test_ragged_actions_break_their_own_episode_alone(write_set):
    root, _ = write_set()
    table = pq.read_table(root / DATA)
    rows = [[0.0] * (3 if row else 2) for row in range(len(table))]
    place = table.schema.get_field_index("action")
    pq.write_table(table.set_column(place, "action", pa.array(rows, pa.list_(pa.float32()))), root / DATA)
    source = LeRobotSource(root)
    with pytest.raises(DataError, match=r"action must have 3 entries per step, .* got 2 in episode 0, frame 0"):
        source.column(0, "action")
    assert source.column(2, "action").shape == (7, 3)


def test_texts_where_numbers_should_be(write_set):
    root, _ = write_set()
    table = pq.read_table(root / DATA)
    place = table.schema.get_field_index("action")
    pq.write_table(table.set_column(place, "action", pa.array(["go"] * len(table))), root / DATA)
    with pytest.raises(DataError, match=r"action must hold numbers only, got the type string"):
        LeRobotSource(root).column(0, "action")


def test_lists_of_free_length_are_read_too(write_set):
    root, episodes = write_set()
    table = pq.read_table(root / DATA)
    place = table.schema.get_field_index("action")
    free = pa.array(table["action"].to_pylist(), pa.list_(pa.float32()))
    pq.write_table(table.set_column(place, "action", free), root / DATA)
    np.testing.assert_array_equal(LeRobotSource(root).column(2, "action"), episodes[2]["action"])


def test_lost_rows_break_their_own_episode_alone(write_set):
    root, _ = write_set()
    pq.write_table(pq.read_table(root / DATA)[:10], root / DATA)
    source = LeRobotSource(root)
    assert source.column(1, "action").shape == (1, 3)
    for _ in range(2):  # the second time from what the first one found
        with pytest.raises(DataError, match=r"must hold 7 rows of episode 2 in a row, got 4. .*clean"):
            source.column(2, "action")


def test_zero_length_episode_raises_where_it_is_read(write_set):
    root, episodes = write_set()
    table = pq.read_table(root / DATA)
    keep = [row for row in range(13) if row != 5]
    pq.write_table(table.take(keep), root / DATA)
    edit_table(root / EPISODES, lambda columns: columns["length"].__setitem__(1, 0))
    source = LeRobotSource(root)
    assert source.lengths.tolist() == [5, 0, 7]
    np.testing.assert_array_equal(source.column(2, "action"), episodes[2]["action"])
    with pytest.raises(DataError, match=r"parquet: episode 1 must have at least one frame, got 0 in meta. .*clean"):
        source.column(1, "action")


def test_misnumbered_episodes(write_set):
    root, _ = write_set()
    edit_table(root / EPISODES, lambda columns: columns["episode_index"].__setitem__(1, 0))
    with pytest.raises(DataError, match=r"must list the episodes 0, 1, 2, ... once each, got \[0, 0, 2\]"):
        LeRobotSource(root)
    edit_table(root / EPISODES, lambda columns: columns.pop("length"))
    with pytest.raises(DataError, match=r"must hold the columns .* got none of \['length'\]"):
        LeRobotSource(root)


def test_unknown_task(write_set):
    root, _ = write_set()
    edit_table(root / DATA, lambda columns: columns["task_index"].__setitem__(5, 9))
    with pytest.raises(DataError, match=r"must hold a task_index of .*tasks.parquet, got 9 in episode 1, frame 0"):
        LeRobotSource(root).instruction_at(1, 0)


def test_frame_numbers_that_do_not_count(write_set):
    root, _ = write_set()
    edit_table(root / DATA, lambda columns: columns["frame_index"].__setitem__(8, 3))
    source = LeRobotSource(root)
    assert source.images(0, VIDEO, [0]).shape[0] == 1
    with pytest.raises(
        DataError, match=r"parquet: frame_index must count 0, 1, 2, ..., got 3 at row 2 of the episode in episode 2"
    ):
        source.images(2, VIDEO, [0])


def test_times_that_jump_name_episode_and_frame(write_set):
    root, _ = write_set()

    def lose_a_frame(columns):
        columns["timestamp"][9:] = [time + 0.04 for time in columns["timestamp"][9:]]

    edit_table(root / DATA, lose_a_frame)
    source = LeRobotSource(root)
    source.column(0, "action")
    with pytest.raises(
        DataError,
        match=r"timestamp must advance by 0.1 s a frame \(within 0.0001 s\), got 0.14 s up to frame 3 in episode 2. "
        r".*tolerance_s",
    ):
        source.column(2, "action")
    assert LeRobotSource(root, tolerance_s=0.05).column(2, "action").shape == (7, 3)


def test_times_that_drift_by_half_a_frame(write_set):
    root, _ = write_set(lengths=(20,))
    edit_table(root / DATA, lambda columns: columns.update(timestamp=[0.104 * step for step in range(20)]))
    with pytest.raises(
        DataError, match=r"timestamp must keep 10 frames per second, got \+0.052 s of drift at frame 13"
    ):
        LeRobotSource(root, tolerance_s=0.01).column(0, "action")


def test_times_of_a_long_episode_in_float32(write_set):
    root, _ = write_set(lengths=(5,))
    edit_table(
        root / DATA,
        lambda columns: columns.update(timestamp=[float(np.float32(9000 + step / 10)) for step in range(5)]),
    )
    assert LeRobotSource(root).column(0, "action").shape == (5, 3)


def test_truncated_video_names_key_and_episode(write_set):
    root, _ = write_set()
    video = next((root / "videos").rglob("*.mp4"))
    video.write_bytes(video.read_bytes()[:200])
    for backend in ("auto", "pyav"):
        with pytest.raises(DataError, match=r"observation.images.top of episode 0: path must be a readable video"):
            LeRobotSource(root, video=backend).images(0, VIDEO, [0])


def test_missing_video_is_named(write_set):
    root, _ = write_set()
    next((root / "videos").rglob("*.mp4")).unlink()
    with pytest.raises(DataError, match=r"top of episode 1: path must be a readable video, got .*file-000.mp4"):
        LeRobotSource(root).images(1, VIDEO, [0])


def test_video_that_the_metadata_cut_short(write_set):
    root, _ = write_set()
    edit_table(root / EPISODES, lambda columns: columns[f"videos/{VIDEO}/to_timestamp"].__setitem__(0, 0.4))
    source = LeRobotSource(root)
    assert source.images(1, VIDEO, [0]).shape[0] == 1
    with pytest.raises(
        DataError, match=r"top of episode 0: .*to_timestamp must span 5 frames, one per row, got 4. .*lost frames"
    ):
        source.images(0, VIDEO, [0])


@pytest.mark.parametrize("backend", ["auto", "pyav"])
def test_video_one_frame_short(write_set, tmp_path, backend):
    root, _ = write_set()
    shorter, _ = write_set("shorter", lengths=(5, 1, 6))
    shutil.copyfile(next((shorter / "videos").rglob("*.mp4")), next((root / "videos").rglob("*.mp4")))
    with pytest.raises(DataError, match=r"top of episode 0: .*file-000.mp4 must hold 13 frames, got 12"):
        LeRobotSource(root, video=backend).images(0, VIDEO, [0])


@pytest.mark.parametrize("backend", ["auto", "pyav"])
def test_video_of_another_rate(write_set, tmp_path, backend):
    root, episodes = write_set()
    features = {"action": {"dtype": "float32", "shape": (3,)}, VIDEO: {"dtype": "video", "shape": (32, 48, 3)}}
    with LeRobotWriter(tmp_path / "fast", rate_hz=12, features=features) as writer:
        for episode in episodes:
            writer.add_episode(episode["action"], {VIDEO: episode[VIDEO]}, instruction="go")
    shutil.copyfile(next((tmp_path / "fast/videos").rglob("*.mp4")), next((root / "videos").rglob("*.mp4")))
    with pytest.raises(DataError, match=r"must show 10 frames per second, got frame 12 at 1.000 s instead of 1.200 s"):
        LeRobotSource(root, video=backend).images(2, VIDEO, [6])


@pytest.mark.parametrize(
    ("entry", "text"), [(b"no image", "must be a readable image"), (None, "must hold the bytes of an image")]
)
def test_broken_images_name_the_frame(write_set, entry, text):
    root, _ = write_set()
    edit_table(root / DATA, lambda columns: columns[IMAGE].__setitem__(5, {"bytes": entry, "path": None}))
    with pytest.raises(DataError, match=rf"observation.images.wrist of episode 1, frame 0 {text}"):
        LeRobotSource(root).images(1, IMAGE, [0])


def test_depth_is_not_clipped_in_silence(write_set):
    root, _ = write_set()
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 10), 4000, dtype=np.uint16)).save(buffer, format="PNG")
    entry = {"bytes": buffer.getvalue(), "path": None}
    edit_table(root / DATA, lambda columns: columns[IMAGE].__setitem__(5, entry))
    with pytest.raises(DataError, match=r"must be a colour or gray image of 8 bits, got the mode I"):
        LeRobotSource(root).images(1, IMAGE, [0])
