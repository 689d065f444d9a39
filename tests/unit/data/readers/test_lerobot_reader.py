import json
import pickle
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from vla_kit.actions import QuantileStats
from vla_kit.data import EpisodeReader
from vla_kit.data.readers.lerobot import LeRobotReader
from vla_kit.errors import DataError

VIDEO, IMAGE, STATE = "observation.images.top", "observation.images.wrist", "observation.state"
VIEWS = {"wrist": IMAGE, "top": VIDEO}
DATA, EPISODES = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"


def open_set(root, **settings):
    return LeRobotReader(root, **{"embodiment": "toy", "views": VIEWS, **settings})


def edit_table(path, change):
    """Rewrite a parquet file after `change` edited its columns."""
    table = pq.read_table(path)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    change(columns)
    kept = pa.schema([field for field in table.schema if field.name in columns])
    pq.write_table(pa.table(columns, schema=kept if set(columns) <= set(kept.names) else None), path)


def edit_info(root, change):
    info = json.loads((root / "meta/info.json").read_text())
    change(info)
    (root / "meta/info.json").write_text(json.dumps(info))


def test_satisfies_the_protocol_and_knows_its_set(write_set):
    root, _ = write_set()
    reader = open_set(root)
    assert isinstance(reader, EpisodeReader)
    assert (reader.name, reader.embodiment, reader.rate_hz, reader.action_size) == ("set", "toy", 10.0, 3)
    assert (reader.num_episodes, reader.num_frames) == (3, 13)
    assert reader.episode(1).length == 1
    assert reader.episode(1).instructions == ("task 1",)
    assert reader.episode(2).seed == 2
    assert reader.tasks == {0: "task 0", 1: "task 1"}
    assert list(reader.views) == ["wrist", "top"]


def test_actions_and_columns_are_bit_identical(write_set):
    root, episodes = write_set()
    reader = open_set(root)
    for index, episode in enumerate(episodes):
        assert torch.equal(reader.actions(index), torch.from_numpy(episode["action"]))
        np.testing.assert_array_equal(reader.column(index, STATE), episode[STATE])


def test_changing_what_was_returned_does_not_change_the_set(write_set):
    root, episodes = write_set()
    reader = open_set(root)
    reader.actions(0).fill_(7)
    assert torch.equal(reader.actions(0), torch.from_numpy(episodes[0]["action"]))


def test_images_are_exact_and_videos_close(write_set):
    root, episodes = write_set()
    reader = open_set(root)
    for index in (2, 0, 1):
        length = len(episodes[index]["action"])
        frames = reader.frames(index, [length - 1, 0])
        assert list(frames) == ["wrist", "top"]
        np.testing.assert_array_equal(frames["wrist"].permute(0, 2, 3, 1), episodes[index][IMAGE][[length - 1, 0]])
        top = frames["top"].permute(0, 2, 3, 1).numpy().astype(int)
        assert np.abs(top - episodes[index][VIDEO][[length - 1, 0]]).mean() < 3


def test_cached_frames_equal_decoded_ones(write_set):
    root, _ = write_set()
    plain, cached = open_set(root, views={"wrist": IMAGE}), open_set(root, cache_frames=True)
    shutil.rmtree(root / "videos")
    for index, frames in ((2, [6, 0, 3]), (0, [4]), (1, [0])):
        assert cached.frames(index, frames)["top"].shape == (len(frames), 3, 32, 48)
        assert torch.equal(cached.frames(index, frames)["wrist"], plain.frames(index, frames)["wrist"])


def test_cached_video_equals_decoded_video(write_set):
    root, _ = write_set()
    assert torch.equal(open_set(root, cache_frames=True).frames(2, [5])["top"], open_set(root).frames(2, [5])["top"])


def test_survives_pickling_with_open_files(write_set):
    root, _ = write_set()
    reader = open_set(root)
    before = reader.frames(0, [1])
    after = pickle.loads(pickle.dumps(reader)).frames(0, [1])
    assert all(torch.equal(before[tag], after[tag]) for tag in VIEWS)


def test_no_views_needs_no_cameras(write_set):
    root, _ = write_set()
    shutil.rmtree(root / "videos")
    assert open_set(root, views={}).frames(0, [0]) == {}


def test_instruction_of_a_frame_follows_task_index(write_set):
    root, _ = write_set()
    edit_table(root / DATA, lambda columns: columns["task_index"].__setitem__(4, 1))
    reader = open_set(root)
    assert [reader.instruction_at(0, frame) for frame in (3, 4)] == ["task 0", "task 1"]


def test_statistics_are_exact_and_kept(write_set):
    root, episodes = write_set()
    reader = open_set(root)
    expected = QuantileStats.from_frames(np.concatenate([episode["action"] for episode in episodes]))
    assert reader.statistics().fingerprint == expected.fingerprint
    (kept,) = (root / ".vla_kit").iterdir()
    assert reader.fingerprint in kept.name
    changed = json.loads(kept.read_text())
    changed["q01"] = [value - 1 for value in changed["q01"]]
    kept.write_text(json.dumps(changed))
    np.testing.assert_allclose(open_set(root).statistics().q01, expected.q01 - 1, rtol=1e-6)


def test_statistics_of_a_folder_that_cannot_be_written(write_set, tmp_path):
    root, _ = write_set()
    (tmp_path / "file").write_text("no folder can be made below a file")
    assert open_set(root, cache_folder=tmp_path / "file/cache").statistics().count == 13


def test_broken_statistics_file_is_named(write_set):
    root, _ = write_set()
    reader = open_set(root)
    reader.statistics()
    (kept,) = (root / ".vla_kit").iterdir()
    kept.write_text("{")
    with pytest.raises(DataError, match=r"statistics-action-.*json must hold statistics"):
        reader.statistics()


def test_fingerprint_follows_the_data_not_the_place(write_set, tmp_path):
    root, _ = write_set()
    other, _ = write_set("other", seed=5)
    reader = open_set(root)
    before = reader.fingerprint
    reader.statistics()
    assert reader.fingerprint == before
    shutil.copytree(root, tmp_path / "copy")
    assert open_set(tmp_path / "copy").fingerprint == before
    assert open_set(other).fingerprint != before


def test_set_of_another_layout(write_set, tmp_path):
    with pytest.raises(DataError, match=r"root must be a folder of the LeRobot v3.0 layout, got .*nowhere"):
        open_set(tmp_path / "nowhere")
    root, _ = write_set()
    edit_info(root, lambda info: info.update(codebase_version="v2.1"))
    with pytest.raises(DataError, match=r"info.json: codebase_version must be v3.0, got v2.1. .*convert"):
        open_set(root)
    (root / "meta/info.json").write_text("{")
    with pytest.raises(DataError, match=r"info.json must be JSON"):
        open_set(root)
    (root / "meta/info.json").write_text('{"fps": 10}')
    with pytest.raises(DataError, match=r"info.json must hold \['codebase_version', 'features', 'data_path'\]"):
        open_set(root)


def test_unknown_keys_list_the_known_ones(write_set):
    root, _ = write_set()
    with pytest.raises(
        DataError, match=r"action must be a column of .*info.json, got 'actions'. Choose one of .*'action'"
    ):
        open_set(root, action="actions")
    with pytest.raises(DataError, match=rf"views\['front'\] must be a camera .* got 'cam'. Choose one of \['{VIDEO}'"):
        open_set(root, views={"front": "cam"})
    with pytest.raises(DataError, match=r"file-000.parquet must hold the column 'reward'"):
        open_set(root).column(0, "reward")


@pytest.mark.parametrize("missing", ["meta/tasks.parquet", EPISODES, DATA])
def test_missing_files_are_named(write_set, missing):
    root, _ = write_set()
    (root / missing).unlink()
    with pytest.raises(DataError, match=missing.split("/")[0]):
        open_set(root).actions(0)


def test_broken_data_file_is_named(write_set):
    root, _ = write_set()
    (root / DATA).write_bytes((root / DATA).read_bytes()[:500])
    with pytest.raises(DataError, match=r"file-000.parquet must be a readable parquet file"):
        open_set(root).actions(0)


def test_indices_outside(write_set):
    root, _ = write_set()
    reader = open_set(root)
    with pytest.raises(DataError, match=r"index must be an episode of .* in \[0, 3\), got 3"):
        reader.actions(3)
    with pytest.raises(DataError, match=r"frame must lie in \[0, 5\) in episode 0 of .*, got 5"):
        reader.frames(0, [5])


def test_nan_actions_name_file_episode_frame_and_channel(write_set):
    root, _ = write_set()
    edit_table(root / DATA, lambda columns: columns["action"].__setitem__(8, [0.0, float("nan"), 0.0]))
    with pytest.raises(DataError, match=r"action must be finite, got nan in episode 2, frame 2, channel 1"):
        open_set(root).actions(0)


def test_wrong_width_names_both(write_set):
    root, _ = write_set()
    edit_info(root, lambda info: info["features"]["action"].update(shape=[4]))
    with pytest.raises(DataError, match=r"action must have \[4\] entries per step, .* got \[3\]"):
        open_set(root).actions(0)


def test_ragged_actions(write_set):
    root, _ = write_set()
    table = pq.read_table(root / DATA)
    rows = [[0.0] * (3 if row else 2) for row in range(len(table))]
    place = table.schema.get_field_index("action")
    pq.write_table(table.set_column(place, "action", pa.array(rows, pa.list_(pa.float32()))), root / DATA)
    with pytest.raises(DataError, match=r"action must have \[3\] entries per step"):
        open_set(root).actions(0)


def test_lists_of_free_length_are_read_too(write_set):
    root, episodes = write_set()
    table = pq.read_table(root / DATA)
    place = table.schema.get_field_index("action")
    free = pa.array(table["action"].to_pylist(), pa.list_(pa.float32()))
    pq.write_table(table.set_column(place, "action", free), root / DATA)
    assert torch.equal(open_set(root).actions(2), torch.from_numpy(episodes[2]["action"]))


def test_lost_rows(write_set):
    root, _ = write_set()
    pq.write_table(pq.read_table(root / DATA)[:10], root / DATA)
    reader = open_set(root)
    assert reader.actions(1).shape == (1, 3)
    with pytest.raises(DataError, match=r"must hold 7 rows of episode 2 in a row, got 4"):
        reader.actions(2)


def test_empty_and_misnumbered_episodes(write_set):
    root, _ = write_set()
    edit_table(root / EPISODES, lambda columns: columns["length"].__setitem__(1, 0))
    with pytest.raises(DataError, match=r"must list episodes of at least one frame, got 0 in \[1\]"):
        open_set(root)
    edit_table(root / EPISODES, lambda columns: columns["episode_index"].__setitem__(1, 0))
    with pytest.raises(DataError, match=r"must list the episodes 0, 1, 2, ... once each"):
        open_set(root)
    edit_table(root / EPISODES, lambda columns: columns.pop("length"))
    with pytest.raises(DataError, match=r"must hold the columns .* got none of \['length'\]"):
        open_set(root)


def test_unknown_task(write_set):
    root, _ = write_set()
    edit_table(root / DATA, lambda columns: columns["task_index"].__setitem__(0, 9))
    with pytest.raises(DataError, match=r"must hold a task_index of .*tasks.parquet, got 9 in episode 0, frame 0"):
        open_set(root).instruction_at(0, 0)


def test_truncated_video_names_key_and_episode(write_set):
    root, _ = write_set()
    video = next((root / "videos").rglob("*.mp4"))
    video.write_bytes(video.read_bytes()[:200])
    with pytest.raises(DataError, match=r"observation.images.top of episode 0: path must be a readable video"):
        open_set(root).frames(0, [0])


def test_video_shorter_than_its_metadata(write_set):
    root, _ = write_set()
    edit_table(root / EPISODES, lambda columns: columns[f"videos/{VIDEO}/from_timestamp"].__setitem__(2, 1.0))
    with pytest.raises(DataError, match=r"observation.images.top of episode 2: indices must lie in \[0, 13\)"):
        open_set(root).frames(2, [6])


@pytest.mark.parametrize(
    ("entry", "text"), [(b"no image", "must be a readable image"), (None, "must hold the bytes of an image")]
)
def test_broken_images_name_the_frame(write_set, entry, text):
    root, _ = write_set()
    edit_table(root / DATA, lambda columns: columns[IMAGE].__setitem__(5, {"bytes": entry, "path": None}))
    with pytest.raises(DataError, match=rf"observation.images.wrist of episode 1, frame 0 {text}"):
        open_set(root).frames(1, [0])


def test_data_workers_read_the_same_frames(write_set):
    root, _ = write_set()
    reader = open_set(root)
    expected = reader.frames(2, [3])["top"]  # the parent holds the file open before it forks
    loader = torch.utils.data.DataLoader(_Frames(reader), batch_size=None, num_workers=1)
    assert torch.equal(next(iter(loader)), expected)


class _Frames(torch.utils.data.Dataset):
    def __init__(self, reader):
        self.reader = reader

    def __len__(self):
        return 1

    def __getitem__(self, item):
        return self.reader.frames(2, [3])["top"]
