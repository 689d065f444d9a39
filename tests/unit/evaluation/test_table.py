import json

import pytest

from vla_kit.errors import SettingError
from vla_kit.evaluation import EpisodeResult, EvaluationTable, SuccessCount, TaskRow
from vla_kit.metrics import wilson_interval


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
        "success": 0.7,
        "low": low,
        "high": high,
        "expert": 1.0,
        "random": 0.0,
        "swapped": None,
    }
    assert second["expert"] is None
    assert summary["average"] == {"success": 0.7}
    assert summary["seconds"] == {"training": 90.0, "evaluation": 30.0}
    assert summary["minutes"] == {"training": 1.5, "evaluation": 0.5, "total": 2.0}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["summary.json"]


def test_refuses():
    with pytest.raises(SettingError, match="trials must be at least 1"):
        SuccessCount(0, 0)
    with pytest.raises(SettingError, match="successes must lie in"):
        SuccessCount(3, 2)
    with pytest.raises(SettingError, match="tasks must be one or more with names of their own"):
        EvaluationTable(tasks=[row(), row()], seconds={})
