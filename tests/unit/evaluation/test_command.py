import json
import sys
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # workers get the path

from corridor import Corridor, Walker

from vla_kit.errors import SettingError
from vla_kit.evaluation.command import evaluate_into, fingerprint_policy


class Named(Corridor):
    """A corridor with a name."""

    def __init__(self, name="toy/named"):
        super().__init__()
        self.task = name


@pytest.mark.parametrize("workers", [0, 2])
def test_everything_lies_in_one_folder(workers, tmp_path):
    envs = [Corridor, partial(Named, name="toy/other")]
    settings = {"envs": envs, "episodes": 3, "baseline_episodes": 1, "workers": workers}
    table = evaluate_into(tmp_path, Walker(), identity={"checkpoint": "abc"}, notes=["<note>"], **settings)
    assert [(row.name, row.policy.successes, row.random.episodes) for row in table.tasks] == [
        ("toy/corridor", 3, 1),
        ("toy/other", 3, 1),
    ]
    assert json.loads((tmp_path / "summary.json").read_text())["tasks"][1]["name"] == "toy/other"
    assert "&lt;note&gt;" in (tmp_path / "report.html").read_text()
    assert len((tmp_path / "episodes.jsonl").read_text().splitlines()) == 2 * (3 + 1)
    assert len(list(tmp_path.rglob("*.mp4"))) == 2
    walker = Walker()
    evaluate_into(tmp_path, walker, identity={"checkpoint": "abc"}, **settings)
    assert walker.batches == []
    with pytest.raises(SettingError, match="where checkpoint was 'abc' and is 'xyz' now"):
        evaluate_into(tmp_path, walker, identity={"checkpoint": "xyz"}, **settings)
    with pytest.raises(SettingError, match="where replan_every was 8 and is 4 now"):
        evaluate_into(tmp_path, walker, identity={"checkpoint": "abc"}, replan_every=4, **settings)
    settings["envs"] = [Corridor, partial(Named, name="toy/third")]
    with pytest.raises(SettingError, match=r"where envs was .*name='toy/other'.* is .*name='toy/third'"):
        evaluate_into(tmp_path, walker, identity={"checkpoint": "abc"}, **settings)


def test_a_checkpoint_is_known_by_its_content(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "last.ckpt").write_bytes(bytes(100_000))
    first = fingerprint_policy(tmp_path / "a" / "last.ckpt")
    (tmp_path / "a").rename(tmp_path / "b")
    assert fingerprint_policy(tmp_path / "b" / "last.ckpt") == first
    folder = fingerprint_policy(tmp_path / "b")
    changed = bytearray(100_000)
    changed[10] = 1
    (tmp_path / "b" / "last.ckpt").write_bytes(changed)
    assert fingerprint_policy(tmp_path / "b" / "last.ckpt") != first
    assert fingerprint_policy(tmp_path / "b") != folder
    with pytest.raises(SettingError, match="checkpoint must exist, got"):
        fingerprint_policy(tmp_path / "a")


def test_refuses(tmp_path):
    with pytest.raises(SettingError, match="tasks or envs must name something"):
        evaluate_into(tmp_path, Walker(), identity={})
    with pytest.raises(SettingError, match="workers must be at least 0, got -1"):
        evaluate_into(tmp_path, Walker(), identity={}, envs=[Corridor], workers=-1)
    assert not list(tmp_path.iterdir())
