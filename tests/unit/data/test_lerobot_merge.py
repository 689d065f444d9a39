import json

import numpy as np
import pandas as pd
import pytest

from vla_kit.data.lerobot_merge import merge_lerobot
from vla_kit.data.lerobot_writer import LeRobotWriter
from vla_kit.data.readers.lerobot import LeRobotSource
from vla_kit.errors import DataError, SettingError

VIDEO, IMAGE, STATE = "observation.images.top", "observation.images.wrist", "observation.state"


def test_merged_set_holds_the_episodes_of_all(write_set, tmp_path):
    first, ours = write_set("a", lengths=(4, 3))
    second, theirs = write_set("b", lengths=(2, 6), seed=10, words="other task")
    merge_lerobot([first, second], tmp_path / "out")
    merged = LeRobotSource(tmp_path / "out")
    parts = [LeRobotSource(root) for root in (first, second)]
    assert len(merged.lengths) == 4
    assert [merged.episode(index).seed for index in range(4)] == [0, 1, 10, 11]
    assert [merged.instruction_at(index, 0) for index in range(4)] == [
        "task 0",
        "task 1",
        "other task 0",
        "other task 1",
    ]
    for index, episode in enumerate(ours + theirs):
        np.testing.assert_array_equal(merged.column(index, "action"), episode["action"])
        np.testing.assert_array_equal(merged.column(index, STATE), episode[STATE])
        steps = range(len(episode["action"]))
        for key in (VIDEO, IMAGE):
            before = parts[index // 2].images(index % 2, key, steps)
            np.testing.assert_array_equal(merged.images(index, key, steps), before)
    table = pd.read_parquet(tmp_path / "out/meta/episodes/chunk-000/file-000.parquet")
    assert table["dataset_from_index"].tolist() == [0, 4, 7, 9]
    assert table["stats/index/max"][3].tolist() == [14.0]
    assert list((tmp_path / "out").parent.glob(".out*")) == []


def test_merged_statistics_equal_those_of_one_writer(write_set, tmp_path):
    first, ours = write_set("a", lengths=(4, 3))
    second, theirs = write_set("b", lengths=(2, 6), seed=10)
    merge_lerobot([first, second], tmp_path / "out")
    stats = json.loads((tmp_path / "out/meta/stats.json").read_text())
    actions = np.concatenate([episode["action"] for episode in ours + theirs])
    pixels = np.concatenate([episode[IMAGE].reshape(-1, 3) for episode in ours + theirs]) / 255
    np.testing.assert_allclose(stats["action"]["q99"], np.quantile(actions, 0.99, axis=0), rtol=1e-6)
    np.testing.assert_allclose(np.ravel(stats[IMAGE]["q10"]), np.quantile(pixels, 0.1, axis=0), rtol=1e-6)
    assert stats["index"]["max"] == [14.0]
    assert stats[VIDEO]["count"] == [15]


def test_known_statistics_are_taken(write_set, tmp_path):
    first, _ = write_set("a", lengths=(2,))
    known = {VIDEO: {"mean": np.full((3, 1, 1), 0.25)}}
    merge_lerobot([first], tmp_path / "out", statistics=known)
    stats = json.loads((tmp_path / "out/meta/stats.json").read_text())
    assert stats[VIDEO] == {"mean": [[[0.25]]] * 3}
    assert stats["action"]["count"] == [2]


def test_a_merged_set_can_be_merged_again(write_set, tmp_path):
    first, _ = write_set("a", lengths=(2,))
    second, _ = write_set("b", lengths=(3,), seed=10)
    merge_lerobot([first, second], tmp_path / "ab")
    merge_lerobot([tmp_path / "ab", first], tmp_path / "aba")
    source = LeRobotSource(tmp_path / "aba")
    assert source.lengths.tolist() == [2, 3, 2]
    np.testing.assert_array_equal(source.images(2, VIDEO, [1]), source.images(0, VIDEO, [1]))


def test_sets_of_different_kinds_are_refused(write_set, tmp_path):
    root, _ = write_set("a", lengths=(2,))
    with LeRobotWriter(tmp_path / "b", rate_hz=10, features={"action": {"dtype": "float32", "shape": (3,)}}) as writer:
        writer.add_episode(np.zeros((2, 3)), instruction="go")
    with pytest.raises(DataError, match=r"b must have the features of .*a"):
        merge_lerobot([root, tmp_path / "b"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_broken_shard_leaves_nothing(write_set, tmp_path):
    first, _ = write_set("a", lengths=(2,))
    second, _ = write_set("b", lengths=(2,), seed=5)
    next((second / "videos").rglob("*.mp4")).unlink()
    with pytest.raises(DataError, match=r"file-000.mp4 must exist, but is missing"):
        merge_lerobot([first, second], tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_nothing_to_merge_and_full_target(write_set, tmp_path):
    with pytest.raises(SettingError, match="roots must hold at least one data set"):
        merge_lerobot([], tmp_path / "out")
    root, _ = write_set("a", lengths=(2,))
    with pytest.raises(SettingError, match="root must not exist yet or be empty"):
        merge_lerobot([root], root)
