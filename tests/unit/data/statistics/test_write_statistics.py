import json
import shutil

import numpy as np
import pytest
from jsonargparse import auto_cli

from vla_kit.data.lerobot_writer import LeRobotWriter
from vla_kit.data.statistics.write import write_statistics
from vla_kit.errors import DataError, SettingError

FEATURES = {
    "action": {"dtype": "float32", "shape": (3,), "names": ["x", "grip", "locked"]},
    "observation.state": {"dtype": "float32", "shape": (2,)},
}


@pytest.fixture
def recorded(tmp_path):
    """Twenty episodes, each at a place of its own, in a folder with a space and an umlaut in its name."""
    root, rng = tmp_path / "Kühe greifen", np.random.default_rng(0)
    actions = [
        np.column_stack([rng.normal(size=60) + 30 * index, rng.integers(0, 2, size=60), np.full(60, 7)])
        for index in range(20)
    ]
    with LeRobotWriter(root, rate_hz=10, features=FEATURES) as writer:
        for values in actions:
            writer.add_episode(
                values.astype(np.float32),
                instruction="grasp",
                columns={"observation.state": values[:, :2].astype(np.float32)},
            )
    return root, [values.astype(np.float32) for values in actions]


def average_published(root, actions):
    """Publish what LeRobot would: averages of the quantiles of the episodes."""
    path = root / "meta/stats.json"
    stats = json.loads(path.read_text())
    for name, share in (("q01", 0.01), ("q99", 0.99)):
        stats["action"][name] = np.mean([np.quantile(each, share, axis=0) for each in actions], axis=0).tolist()
    path.write_text(json.dumps(stats))


def test_writes_json_and_prints_a_table(recorded, tmp_path, capsys):
    root, actions = recorded
    out = tmp_path / "new folder" / "stats.json"
    write_statistics(str(root), json=str(out))
    written = json.loads(out.read_text())
    assert {"action", "observation.state"} <= set(written)
    entry, frames = written["action"], np.concatenate(actions)
    assert {"count", "min", "max", "mean", "std", "q01", "q99"} <= set(entry)
    assert (entry["count"], entry["binary"], entry["exact"]) == (1200, [1], True)
    np.testing.assert_allclose(entry["q01"], np.quantile(frames, 0.01, axis=0), rtol=1e-6)
    np.testing.assert_allclose(entry["std"], frames.astype(np.float64).std(axis=0), rtol=1e-6, atol=1e-9)
    shown = capsys.readouterr().out
    assert "action, 1,200 frames" in shown
    rows = {
        line.split()[1]: line.split()[-1] for line in shown.splitlines() if line.split()[:1] in (["0"], ["1"], ["2"])
    }
    assert rows["grip"] == "binary"
    assert rows["locked"] == "constant"
    assert "binary: action [1]; observation.state [1]" in shown
    assert "warning" not in shown


def test_names_wrong_published_statistics_and_does_not_use_them(recorded, tmp_path, capsys):
    root, actions = recorded
    average_published(root, actions)
    write_statistics(str(root), json=str(tmp_path / "stats.json"))
    shown = " ".join(capsys.readouterr().out.split())
    assert "warning: published q01 of action is wrong in channels [0], by up to" in shown
    assert "warning: published q99 of action is wrong in channels [0], by up to" in shown
    assert "was not used" in shown
    frames = np.concatenate(actions)
    written = json.loads((tmp_path / "stats.json").read_text())
    np.testing.assert_allclose(written["action"]["q99"], np.quantile(frames, 0.99, axis=0), rtol=1e-6)


def test_is_a_command_line(recorded, tmp_path):
    root, _ = recorded
    out = tmp_path / "stats.json"
    auto_cli(
        write_statistics, args=["--root", str(root), "--json", str(out), "--columns", '["action"]'], as_positional=False
    )
    assert list(json.loads(out.read_text())) == ["action"]


def test_second_time_reads_what_was_kept(recorded, tmp_path, monkeypatch):
    root, _ = recorded
    write_statistics(str(root), json=str(tmp_path / "one.json"))
    assert list((root / ".vla_kit").glob("statistics-*.json"))
    monkeypatch.setattr("vla_kit.data.statistics.columns._count", None)  # nothing may be counted again
    write_statistics(str(root), json=str(tmp_path / "other.json"))
    assert (tmp_path / "one.json").read_text() == (tmp_path / "other.json").read_text()


def test_dropped_episodes_do_not_count(recorded, tmp_path):
    from vla_kit.data.cleaning.decisions import Decision, Decisions
    from vla_kit.data.readers.open import open_source

    root, actions = recorded
    decisions = Decisions(
        data_set="cows",
        fingerprint=open_source(root).fingerprint,
        location=str(root),
        num_episodes=20,
        entries=(Decision(episode=19, rule="by hand"),),
    )
    decisions.write(tmp_path / "decisions.json")
    write_statistics(str(root), json=str(tmp_path / "stats.json"), decisions=str(tmp_path / "decisions.json"))
    entry = json.loads((tmp_path / "stats.json").read_text())["action"]
    assert entry["count"] == 1140
    assert entry["max"][0] == pytest.approx(np.concatenate(actions[:19])[:, 0].max())


def test_gr1_from_the_command(shared_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VLA_KIT_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "gr1"
    shutil.copytree(shared_data / "groot_gr1_pnp", root)
    write_statistics(str(root), json=str(tmp_path / "stats.json"))
    written = json.loads((tmp_path / "stats.json").read_text())
    published = json.loads((root / "meta/stats.json").read_text())
    for key in ("action", "observation.state"):
        for name in ("q01", "q99"):
            np.testing.assert_allclose(written[key][name], published[key][name], rtol=0, atol=1e-6)
    shown = capsys.readouterr().out
    assert "warning" not in shown
    assert shown.count("constant") >= 25


def test_bridge_from_the_command(shared_data, tmp_path, capsys):
    pytest.importorskip("tfrecord")
    root = tmp_path / "bridge"
    shutil.copytree(shared_data / "bridge_rlds_debug", root)
    write_statistics(str(root), json=str(tmp_path / "stats.json"))
    entry = json.loads((tmp_path / "stats.json").read_text())["action"]
    assert (entry["count"], len(entry["q01"])) == (250, 7)
    shown = capsys.readouterr().out
    assert "is_first [0]" in shown  # two values
    assert "and 412 more" in shown  # of the 512 of the embedded sentence


def test_wrong_arguments(recorded, tmp_path):
    root, _ = recorded
    with pytest.raises(SettingError, match=r"json must be a file, got the folder"):
        write_statistics(str(root), json=str(tmp_path))
    with pytest.raises(SettingError, match=r"workers must be at least 1, got 0"):
        write_statistics(str(root), workers=0)
    with pytest.raises(DataError, match=r"root must be a folder, a file or a hub id, got .*nowhere"):
        write_statistics(str(tmp_path / "nowhere"))
