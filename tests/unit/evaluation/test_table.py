import json

import pytest

from vla_kit.errors import SettingError
from vla_kit.evaluation import EpisodeResult, EvaluationTable, SuccessCount, TaskRow
from vla_kit.metrics import rate_difference, wilson_interval


def row(name="metaworld/reach", **counts):
    return TaskRow(name=name, embodiment="metaworld_sawyer", policy=SuccessCount(7, 10), **counts)


def test_counts_results():
    results = [
        EpisodeResult(task="t", embodiment="e", seed=seed, instruction="", success=seed < 3, steps=1)
        for seed in range(4)
    ]
    count = SuccessCount.of(results)
    assert (count.successes, count.episodes, count.rate) == (3, 4, 0.75)
    assert count.interval == wilson_interval(3, 4)


def test_summary_has_the_agreed_form(tmp_path):
    table = EvaluationTable(
        tasks=[row(expert=SuccessCount(10, 10), random=SuccessCount(0, 10)), row("aloha/transfer-cube")],
        seconds={"training": 90.0, "evaluation": 30.0},
    )
    table.write_json(tmp_path / "new" / "summary.json")
    summary = json.loads((tmp_path / "new" / "summary.json").read_text())
    first, second = summary["tasks"]
    low, high = wilson_interval(7, 10)
    assert first == {
        "name": "metaworld/reach",
        "embodiment": "metaworld_sawyer",
        "successes": 7,
        "episodes": 10,
        "errors": 0,
        "success": 0.7,
        "low": low,
        "high": high,
        "expert": 1.0,
        "random": 0.0,
        "swapped": None,
        "all_errors": 0,
        "shifts": {},
    }
    assert second["expert"] is None
    assert summary["average"] == {"success": 0.7, "errors": 0}
    assert summary["shifts"] == {}
    assert summary["seconds"] == {"training": 90.0, "evaluation": 30.0}
    assert summary["minutes"] == {"training": 1.5, "evaluation": 0.5, "total": 2.0}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["summary.json"]


def test_errors_stand_beside_the_rate_and_not_in_it():
    results = [
        EpisodeResult(task="t", embodiment="e", seed=seed, instruction="", success=seed < 3, steps=1, error=error)
        for seed, error in enumerate([None, None, "it hung", None])
    ]
    count = SuccessCount.of(results)
    assert (count.successes, count.episodes, count.errors) == (2, 3, 1)
    assert count.interval == wilson_interval(2, 3)
    assert str(count) == "67% (21-94), 2/3, 1 error"
    table = EvaluationTable(
        tasks=[
            TaskRow(name="a", embodiment="e", policy=count, expert=SuccessCount(0, 0, errors=2)),
            TaskRow(name="b", embodiment="e", policy=SuccessCount(0, 0, errors=3)),
        ],
        seconds={},
    )
    first, second = table.summary()["tasks"]
    assert (first["errors"], first["all_errors"], first["expert"]) == (1, 3, None)
    assert (second["success"], second["low"], second["high"], second["errors"]) == (None, 0.0, 1.0, 3)
    assert table.summary()["average"] == {"success": 2 / 3, "errors": 4}
    json.dumps(table.summary(), allow_nan=False)


def test_shifts_are_compared_with_the_same_tasks_without_them():
    table = EvaluationTable(
        tasks=[
            TaskRow(
                name="a",
                embodiment="e",
                policy=SuccessCount(9, 10),
                shifts={"light": SuccessCount(5, 10), "pose": SuccessCount(8, 9, errors=1)},
            ),
            TaskRow(name="b", embodiment="e", policy=SuccessCount(7, 10), shifts={"light": SuccessCount(6, 10)}),
            TaskRow(name="c", embodiment="e", policy=SuccessCount(0, 10)),
        ],
        seconds={},
    )
    assert table.shifts == {
        "light": (SuccessCount(11, 20), SuccessCount(16, 20)),
        "pose": (SuccessCount(8, 9, errors=1), SuccessCount(9, 10)),
    }
    light = table.summary()["shifts"]["light"]
    expected = rate_difference(11, 20, 16, 20)
    assert (light["successes"], light["episodes"], light["success"]) == (11, 20, 0.55)
    assert light["change"]["difference"] == pytest.approx(-0.25)
    assert (light["change"]["low"], light["change"]["high"]) == (expected.low, expected.high)
    assert SuccessCount(0, 0, errors=1).minus(SuccessCount(1, 2)) is None


def test_refuses():
    with pytest.raises(SettingError, match="errors must be at least 0, got -1"):
        SuccessCount(0, 1, errors=-1)
    with pytest.raises(SettingError, match="episodes must be at least 1 where none failed"):
        SuccessCount(0, 0)
    with pytest.raises(SettingError, match="successes must lie in"):
        SuccessCount(3, 2)
    with pytest.raises(SettingError, match="tasks must be one or more with names of their own"):
        EvaluationTable(tasks=[row(), row()], seconds={})
