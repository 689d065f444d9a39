import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vla_kit.data.conversion import convert, write_lerobot
from vla_kit.data.jobs.processes import ProcessExecutor
from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.data.readers.open import open_source
from vla_kit.errors import DataError, SettingError

TOP, ODD = "observation.images.top", "observation.images.odd"


def make_source(lengths=(5, 3, 4, 6), *, rate_hz=10, sentences=("push", "pull"), **changes) -> MemorySource:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[0:32, 0:48]
    smooth = np.stack([4 * rows, 3 * columns, 2 * rows + columns], axis=-1)
    episodes = []
    for index, length in enumerate(lengths):
        numbers = {
            "actions": rng.normal(size=(length, 3)),
            "obs/ee_pos": rng.normal(size=(length, 2)).astype(np.float32),
            "dones": rng.integers(0, 2, size=(length, 1)).astype(np.uint8),
        }
        pictures = {
            "obs/images/top": np.stack([smooth + 3 * index + step for step in range(length)]).astype(np.uint8),
            "odd": rng.integers(0, 256, size=(length, 5, 8, 3), dtype=np.uint8),
        }
        sentence = sentences[index % len(sentences)]
        episodes.append(MemoryEpisode(columns=numbers, cameras=pictures, instruction=sentence, **changes))
    return MemorySource(episodes, rate_hz=rate_hz)


class TwoSentences(MemorySource):
    def instruction_at(self, index: int, frame: int) -> str:
        return "reach" if frame < 2 else super().instruction_at(index, frame)


def assert_equal(written, source, *, episodes, odd=ODD):
    assert written.lengths.tolist() == source.lengths[episodes].tolist()
    for new, old in enumerate(episodes):
        for key, name in (("actions", "action"), ("obs/ee_pos", "observation.ee_pos"), ("dones", "dones")):
            values, expected = written.column(new, name), source.column(old, key)
            np.testing.assert_array_equal(values, expected)
            assert values.dtype == (expected.dtype if expected.dtype.kind == "f" else np.int64)
        frames = range(int(source.lengths[old]))
        told = [written.instruction_at(new, frame) for frame in frames]
        assert told == [source.instruction_at(old, frame) for frame in frames]
        smooth = written.images(new, TOP, frames).int() - source.images(old, "obs/images/top", frames).int()
        assert smooth.abs().float().mean() < 3
        assert written.images(new, odd, frames).equal(source.images(old, "odd", frames))


@pytest.fixture
def source():
    return make_source()


@pytest.mark.filterwarnings("ignore:.*written as images")
@pytest.mark.parametrize("block_frames", [None, 5], ids=["one_block", "many_blocks"])
def test_everything_arrives(tmp_path, source, block_frames):
    done = write_lerobot(source, tmp_path / "set", robot_type="toy", block_frames=block_frames)
    assert (done.episodes, done.num_frames, done.videos) == ((0, 1, 2, 3), 18, (TOP,))
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    info = json.loads((tmp_path / "set/meta/info.json").read_text())
    assert (info["fps"], info["robot_type"], info["total_tasks"]) == (10, "toy", 2)
    assert info["features"]["action"]["dtype"] == "float64"
    assert len(list((tmp_path / "set/data").rglob("*.parquet"))) == (1 if block_frames is None else 4)
    assert_equal(open_source(tmp_path / "set"), source, episodes=[0, 1, 2, 3])


@pytest.mark.filterwarnings("ignore:.*written as images")
def test_the_cut_into_blocks_changes_no_number(tmp_path, source):
    stats = []
    for name, block_frames in (("one", None), ("many", 5)):
        write_lerobot(source, tmp_path / name, block_frames=block_frames)
        stats.append(json.loads((tmp_path / name / "meta/stats.json").read_text()))
    assert stats[0].keys() == stats[1].keys()
    for key, values in stats[0].items():
        for name, value in values.items():
            np.testing.assert_allclose(stats[1][key][name], value, rtol=1e-12)
    pixels = np.concatenate(
        [source.images(index, "odd", range(int(length))) for index, length in enumerate([5, 3, 4, 6])]
    )
    np.testing.assert_allclose(np.ravel(stats[1][ODD]["q90"]), np.quantile(pixels / 255, 0.9, axis=(0, 2, 3)))


@pytest.mark.filterwarnings("ignore:.*written as images")
def test_processes_write_the_same_files(tmp_path, source):
    write_lerobot(source, tmp_path / "one", block_frames=8)
    write_lerobot(source, tmp_path / "two", block_frames=8, executor=ProcessExecutor(2))
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) == 10
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.filterwarnings("ignore:.*written as images")
def test_sentences_are_kept_per_frame(tmp_path):
    single = make_source()
    source = TwoSentences([single._at(index) for index in range(4)], rate_hz=10)
    write_lerobot(source, tmp_path / "set", block_frames=9)
    table = pd.read_parquet(tmp_path / "set/meta/episodes/chunk-000/file-000.parquet")
    assert [list(tasks) for tasks in table["tasks"]] == [["reach", "push"], ["reach", "pull"]] * 2
    assert_equal(open_source(tmp_path / "set"), source, episodes=[0, 1, 2, 3])


def test_images_are_exact_and_sets_without_language_stay_so(tmp_path):
    source = make_source(sentences=("",))
    done = write_lerobot(source, tmp_path / "set", cameras="image")
    assert done.videos == ()
    written = open_source(tmp_path / "set")
    frames = range(5)
    assert written.images(0, TOP, frames).equal(source.images(0, "obs/images/top", frames))
    assert written.instruction_at(0, 0) == ""


def test_odd_sizes_become_images_with_a_warning(tmp_path, source):
    with pytest.warns(UserWarning, match=r"needs an even height and width; written as images: odd \(5, 8\)"):
        write_lerobot(source, tmp_path / "set")


@pytest.mark.filterwarnings("ignore:.*written as images")
def test_chosen_episodes_and_seeds(tmp_path, write_set):
    root, _ = write_set(lengths=(3, 2, 4), seed=7)
    done = write_lerobot(open_source(root), tmp_path / "out", episodes=[2, 0])
    written = open_source(tmp_path / "out")
    assert done.episodes == (2, 0)
    assert [written.episode(index).seed for index in range(2)] == [9, 7]


def test_empty_episodes_are_left_out_with_a_warning(tmp_path):
    episodes = [MemoryEpisode(columns={"action": np.ones((length, 2))}) for length in (2, 0, 3)]
    with pytest.warns(UserWarning, match=r"left out 1 episodes without frames: \[1\]"):
        done = write_lerobot(MemorySource(episodes, rate_hz=5), tmp_path / "set")
    assert done.episodes == (0, 2)
    with pytest.warns(UserWarning, match="without frames"), pytest.raises(DataError, match="at least one episode"):
        write_lerobot(MemorySource(episodes, rate_hz=5), tmp_path / "none", episodes=[1])


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.float16, "float32"),
        (np.float32, "float32"),
        (np.float64, "float64"),
        (np.uint8, "int64"),
        (np.int32, "int32"),
        (np.int64, "int64"),
        (np.bool_, "bool"),
    ],
)
def test_types(tmp_path, given, kept):
    values = np.array([[0], [1]]).astype(given)
    source = MemorySource([MemoryEpisode(columns={"action": np.eye(2), "x": values})], rate_hz=5)
    write_lerobot(source, tmp_path / "set")
    assert json.loads((tmp_path / "set/meta/info.json").read_text())["features"]["x"]["dtype"] == kept
    assert pd.read_parquet(tmp_path / "set/data/chunk-000/file-000.parquet")["x"].tolist() == [0, 1]


def test_pieces_of_an_action_are_put_side_by_side(tmp_path):
    columns = {"action/open": np.array([[7.0], [8.0]]), "action/xyz": np.arange(6, dtype=np.float32).reshape(2, 3)}
    source = MemorySource([MemoryEpisode(columns=columns)], rate_hz=5)
    write_lerobot(source, tmp_path / "set", keys={"action/xyz": "action", "action/open": "action"})
    written = open_source(tmp_path / "set")
    np.testing.assert_array_equal(written.column(0, "action"), [[0, 1, 2, 7], [3, 4, 5, 8]])
    assert written.columns["action"].names == ("xyz_0", "xyz_1", "xyz_2", "open_0")


@pytest.mark.parametrize(
    ("episode", "error", "text"),
    [
        ({"action": np.array([[np.nan, 0.0]])}, DataError, "action must be finite"),
        ({"action": np.ones((1, 2))}, DataError, "action must fit float32, as elsewhere, got float64 in episode 1"),
    ],
)
def test_a_broken_episode_is_named_and_leaves_nothing(tmp_path, episode, error, text):
    good = MemoryEpisode(columns={"action": np.ones((1, 2), dtype=np.float32)})
    source = MemorySource([good, MemoryEpisode(columns=episode)], rate_hz=5)
    with pytest.raises(error, match=text) as caught:
        write_lerobot(source, tmp_path / "deep/set", block_frames=1)
    assert caught.value.__notes__ == ["in episode 1 of memory:memory", "in block 1 of 2: (1, [1])"]
    assert list((tmp_path / "deep").iterdir()) == []


def test_another_image_size_is_an_error(tmp_path):
    pictures = [np.zeros((2, 4, size, 3), dtype=np.uint8) for size in (6, 8)]
    episodes = [MemoryEpisode(columns={"action": np.ones((2, 1))}, cameras={"cam": each}) for each in pictures]
    with pytest.raises(DataError, match=r"cam must have one image size \(4, 6\), got \(4, 8\) in episode 1"):
        write_lerobot(MemorySource(episodes, rate_hz=5), tmp_path / "set")


def test_settings_are_checked_before_any_work(tmp_path, source):
    with pytest.raises(SettingError, match="rate_hz must be given for memory:memory"):
        write_lerobot(make_source(rate_hz=None), tmp_path / "set")
    with pytest.raises(SettingError, match="cameras must be 'video' or 'image', got 'gif'"):
        write_lerobot(source, tmp_path / "set", cameras="gif")
    with pytest.raises(SettingError, match=r"episodes must lie in \[0, 4\) of memory:memory, got 4"):
        write_lerobot(source, tmp_path / "set", episodes=[4])
    (tmp_path / "set").mkdir()
    (tmp_path / "set/file").write_text("mine")
    with pytest.raises(SettingError, match="root must not exist yet or be empty"):
        write_lerobot(source, tmp_path / "set")


def test_the_verb_honours_decisions_and_says_what_it_wrote(tmp_path, write_set, capsys):
    from vla_kit.data.cleaning.decisions import Decision, Decisions

    root, _ = write_set("päth with spaces", lengths=(3, 2, 4))
    source = open_source(root)
    decisions = Decisions(
        data_set=source.name,
        fingerprint=source.fingerprint,
        location=source.location,
        num_episodes=3,
        entries=(Decision(episode=1, rule="by hand"),),
    )
    decisions.write(tmp_path / "decisions.json")
    convert(
        str(root),
        str(tmp_path / "out"),
        decisions=str(tmp_path / "decisions.json"),
        keys={"observation.state": "observation.pose"},
    )
    assert open_source(tmp_path / "out").lengths.tolist() == [3, 4]
    told = capsys.readouterr().out
    assert "Wrote 2 of 3 episodes, 7 frames" in told
    assert "observation.pose <- observation.state" in told
    assert "observation.images.wrist <- observation.images.wrist (video)" in told


def test_the_verb_reads_keys_from_the_command_line(tmp_path, write_set):
    from jsonargparse import auto_cli

    root, _ = write_set()
    out = tmp_path / "out"
    arguments = ["--source", str(root), "--out", str(out), "--keys", '{"observation.state": "", "action": "action"}']
    auto_cli(convert, args=[*arguments, "--cameras=image"], as_positional=False)
    columns = open_source(out).columns
    assert "action" in columns
    assert "observation.state" not in columns


SLOW_SET = """
import time
import numpy as np
from vla_kit.data.conversion import write_lerobot
from vla_kit.data.jobs.processes import ProcessExecutor
from vla_kit.data.memory_source import MemoryEpisode, MemorySource

class Slow(MemorySource):
    def column(self, index, key):
        if index:
            time.sleep(60)
        return super().column(index, key)

if __name__ == "__main__":
    import sys
    source = Slow([MemoryEpisode(columns={"action": np.ones((2, 2))})] * 8, rate_hz=5)
    print("begins", flush=True)
    write_lerobot(source, sys.argv[1], block_frames=2, executor=ProcessExecutor(2))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_conversion_leaves_nothing_and_no_process(tmp_path, how):
    script = tmp_path / "slow_set.py"
    script.write_text(SLOW_SET)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "sets/out")], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout.readline() == b"begins\n"
    deadline = time.time() + 120
    while not list((tmp_path / "sets").glob(".out.partial-*/*")) and time.time() < deadline:
        time.sleep(0.1)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.send_signal(how)
    assert process.wait(timeout=60) != 0
    assert not (tmp_path / "sets/out").exists()
    if how == signal.SIGINT:
        assert list((tmp_path / "sets").iterdir()) == []
    deadline = time.time() + 30
    while _alive(process.pid) and time.time() < deadline:
        time.sleep(0.1)
    assert _alive(process.pid) == []


def _alive(session: int) -> list[str]:
    """Processes of a session that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, of = (path / "stat").read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if int(of) == session and state != "Z":
            found.append(path.name)
    return found
