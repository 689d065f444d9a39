"""What evaluations, servers and runs read is refused by name where it is broken, and what they write is whole."""

import re
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed import checkpoint as distributed

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "evaluation"))
sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "training"))

from corridor import Corridor, Walker
from rl_parts import rl_module, sft_module

from vla_kit.cli import VLACLI, main
from vla_kit.envs import EnvRecipe
from vla_kit.envs.remote import serve_envs
from vla_kit.errors import CheckpointError, DataError, SettingError
from vla_kit.evaluation import EpisodeLog, EpisodeResult, EvaluationTable, SuccessCount, TaskRow, read_curve
from vla_kit.evaluation import episode_log as log_file
from vla_kit.evaluation.command import evaluate_into
from vla_kit.evaluation.report import write_report
from vla_kit.serving._saved import open_saved
from vla_kit.serving.serve import serve
from vla_kit.training import consolidate
from vla_kit.training.consolidate import consolidate_checkpoint
from vla_kit.training.policy_checkpoint import load_policy, save_policy
from vla_kit.training.warm_start import load_weights

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is")  # one process is meant


def _table():
    return EvaluationTable(
        tasks=[TaskRow(name="toy", embodiment="walker", policy=SuccessCount(1, 2))], seconds={"evaluation": 1.0}
    )


def _result(**more):
    known = {"task": "toy/line", "embodiment": "line", "seed": 1, "instruction": "go", "success": True, "steps": 3}
    return EpisodeResult(**known | more)


# Checkpoints


def _missing(path):
    pass


def _empty(path):
    path.touch()


def _garbage(path):
    path.write_bytes(bytes(range(256)) * 8)


def _folder(path):
    path.mkdir()


def _truncated(path):
    torch.save({"state_dict": {"weight": torch.zeros(1000)}}, path)
    path.write_bytes(path.read_bytes()[:1500])


def _without_weights(path):
    torch.save({"epoch": 1}, path)


BROKEN = [
    (_missing, "checkpoint must be a file, got {path}. "),
    (_folder, "checkpoint must be a file, got {path}. "),
    (_empty, "checkpoint must be a whole Lightning checkpoint, got {path}: "),
    (_garbage, "checkpoint must be a whole Lightning checkpoint, got {path}: "),
    (_truncated, "checkpoint must be a whole Lightning checkpoint, got {path}: "),
    (_without_weights, "checkpoint must hold a state_dict, got {path}. Take a file that Trainer saved."),
]


@pytest.mark.parametrize(("breaking", "text"), BROKEN)
def test_broken_checkpoints_are_no_policy_and_no_beginning(breaking, text, tmp_path):
    breaking(path := tmp_path / "last.ckpt")
    text = re.escape(text.format(path=path))
    with pytest.raises(CheckpointError, match=text):
        load_policy(path)
    with pytest.raises(CheckpointError, match=text):
        load_weights(sft_module(), path)
    with pytest.raises(CheckpointError, match=text):
        save_policy(str(path), str(tmp_path / "policy"))
    assert not (tmp_path / "policy").exists()


def test_a_checkpoint_of_a_model_that_python_built_says_how_to_go_on(tmp_path):
    torch.save({"state_dict": sft_module().state_dict(), "hyper_parameters": {}}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"a model that the command line built, got .*last.ckpt.*Policy.from_mod"):
        load_policy(tmp_path / "last.ckpt")


@pytest.mark.parametrize(
    "load", [lambda device: load_policy("p", device=device), lambda device: open_saved("p", device=device)]
)
@pytest.mark.parametrize("device", ["", "gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_before_weights_are_read(load, device):
    with pytest.raises(SettingError, match=f"device must be one of this machine, got '{device}' .*Use cpu"):
        load(device)


@pytest.fixture
def sharded(tmp_path):
    """A checkpoint as `ShardedStrategy` writes it, of one process."""
    folder = tmp_path / "last.ckpt"
    distributed.save({"state_dict": {"weight": torch.arange(1000.0)}}, checkpoint_id=folder)
    torch.save({"epoch": 3}, folder / "meta.pt")
    return folder


def test_a_whole_share_becomes_one_file(sharded, tmp_path):
    consolidate_checkpoint(str(sharded), str(tmp_path / "new" / "one.ckpt"))
    content = torch.load(tmp_path / "new" / "one.ckpt", weights_only=True)
    assert (content["epoch"], content["state_dict"]["weight"].sum()) == (3, 499_500)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["one.ckpt"]


@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata", "meta.pt"])
def test_a_broken_share_leaves_no_file(name, sharded, tmp_path):
    (sharded / name).write_bytes((sharded / name).read_bytes()[:20])
    with pytest.raises(
        CheckpointError, match=r"checkpoint must be whole, got .*last.ckpt \(.*\)\. Take an earlier one"
    ):
        consolidate_checkpoint(str(sharded), str(tmp_path / "new" / "one.ckpt"))
    assert list((tmp_path / "new").iterdir()) == []


def test_one_file_that_cannot_be_written_is_not_begun(sharded, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(consolidate, "save_file", full)
    with pytest.raises(OSError, match="no space left"):
        consolidate_checkpoint(str(sharded), str(tmp_path / "one.safetensors"))
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_what_gave_nan_replaces_the_file_of_before_whole_or_not_at_all(tmp_path, monkeypatch):
    module = rl_module()
    module.trainer = type("T", (), {"default_root_dir": str(tmp_path)})()
    (tmp_path / "broken_batch.pt").write_bytes(b"before")
    with pytest.raises(AttributeError, match="pickle"):
        module.keep_broken({"a": torch.zeros(3), "b": lambda: None})
    assert (tmp_path / "broken_batch.pt").read_bytes() == b"before"


# Configurations


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"model: [", r"config must be YAML, got .*broken\.yaml: .*line 1.*Mend the line"),
        (b"\xff\xfe\x00", r"config must be YAML, got .*broken\.yaml: .*Mend the line"),
        (b"- model", r"config must map names to settings, got .*broken\.yaml with \['model'\]\. Write name: value"),
    ],
)
def test_broken_configurations_are_named(content, text, tmp_path):
    (path := tmp_path / "broken.yaml").write_bytes(content)
    with pytest.raises(SettingError, match=f"(?s){text}"):
        VLACLI(["fit", "--config", str(path)])
    with pytest.raises(SettingError, match=f"(?s){text}"):
        main(["params", "--config", str(path)])


def test_a_missing_configuration_is_named(tmp_path):
    with pytest.raises(SettingError, match=r"config must be a file, got .*none\.yaml \(No such file"):
        main(["params", "--config", str(tmp_path / "none.yaml")])


def test_blocks_of_environments_must_be_blocks():
    with pytest.raises(SettingError, match=r"init_args must be a mapping, got \['reach'\]\. Write name: value"):
        EnvRecipe.parse({"class_path": "vla_kit.envs.metaworld.MetaWorldEnv", "init_args": ["reach"]})


def test_a_secret_must_be_text_and_servers_have_room(tmp_path, monkeypatch):
    (tmp_path / "token").write_bytes(b"\xff" * 32)
    monkeypatch.setattr(
        "vla_kit.serving.serve.open_saved", lambda checkpoint, device: type("P", (), {"prompter": None})
    )
    with pytest.raises(SettingError, match=r"token_file must hold text, got '.*token': .*Write the secret into it"):
        serve("policy", robots=["arm"], token_file=str(tmp_path / "token"))
    (tmp_path / "key").write_bytes(bytes(16))
    with pytest.raises(SettingError, match=r"max_envs must be at least 1, got 0\. Count environments"):
        serve_envs(str(tmp_path / "key"), max_envs=0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SettingError, match=f"address must be free, got '{address}': .*Choose another port"):
            serve_envs(str(tmp_path / "key"), address=address)


# Evaluations


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (
            b"step,train/loss\n1,0.5\n2,much\n",
            "line 3 of .*metrics.csv must hold numbers under step and train/loss, got c",
        ),
        (b"step,train/loss\none,0.5\n", "line 2 of .*metrics.csv must hold numbers under step and train/loss, got inv"),
        (b"step,train/loss\n1,\xff\n", "of .*metrics.csv must hold numbers under step and train/loss, got 'utf-8'"),
    ],
)
def test_broken_curves_are_named(content, text, tmp_path):
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(DataError, match=text):
        read_curve(tmp_path, "train/loss")


@pytest.mark.parametrize("content", [b"", b"step,train/loss\n", b"other\n1\n", b"step,train/loss\n1,0.5\n2"])
def test_a_curve_that_was_hardly_begun_is_short(content, tmp_path):
    (tmp_path / "metrics.csv").write_bytes(content)
    assert read_curve(tmp_path, "train/loss") == ([(1, 0.5)] if b"0.5" in content else [])


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[1]"])
def test_broken_settings_of_an_evaluation_are_named(content, tmp_path):
    EpisodeLog(tmp_path, {}).append(_result(), trial="policy", seconds=1.0)
    (tmp_path / "evaluation.json").write_bytes(content)
    with pytest.raises(
        DataError, match=r"evaluation\.json must hold the settings of the evaluation, got .*Choose another"
    ):
        EpisodeLog(tmp_path, {})


def test_an_episode_without_a_key_and_one_without_its_video_are_named(tmp_path):
    log = EpisodeLog(tmp_path, {})
    log.append(_result(pictures=np.zeros((3, 32, 32, 3), dtype=np.uint8)), trial="policy", seconds=1.0)
    (tmp_path / "videos" / "toy" / "line" / "policy-1.mp4").unlink()
    with pytest.raises(DataError, match=r"policy-1\.mp4"):
        log.finished("toy/line", "policy")
    with (tmp_path / "episodes.jsonl").open("a") as file:
        file.write('{"task": "toy/line", "trial": "policy"}\n')
    with pytest.raises(
        DataError, match=r"line 2 of .*episodes\.jsonl must have the keys \['embodiment', 'error', .*Remove"
    ):
        EpisodeLog(tmp_path, {})


@pytest.mark.parametrize("settings", [{"share": float("nan")}, {"path": Path("a")}])
def test_settings_that_could_not_be_compared_later_are_refused(settings, tmp_path):
    with pytest.raises(SettingError, match=r"settings must be JSON values, got .*Write numbers and texts"):
        EpisodeLog(tmp_path / "log", settings)
    assert not (tmp_path / "log").exists()


def test_an_evaluation_needs_a_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match=r"folder must be one that can be made, got .*file"):
        evaluate_into(tmp_path / "file", Walker(), identity={}, envs=[Corridor], workers=0)


def test_a_video_that_fails_half_way_leaves_no_episode(tmp_path, monkeypatch):
    log = EpisodeLog(tmp_path, {})

    def half(pictures):
        raise DataError("the encoder gave up")

    monkeypatch.setattr(log_file, "encode_mp4", half)
    with pytest.raises(DataError, match="the encoder gave up"):
        log.append(_result(pictures=np.zeros((3, 32, 32, 3), dtype=np.uint8)), trial="policy", seconds=1.0)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["evaluation.json"]
    assert EpisodeLog(tmp_path, {}).finished("toy/line", "policy") == {}


def test_a_line_that_did_not_fit_on_the_disk_is_told_and_dropped_later(tmp_path, monkeypatch):
    log = EpisodeLog(tmp_path, {})
    write = log_file.os.write
    monkeypatch.setattr(log_file.os, "write", lambda handle, text: write(handle, text[:10]))
    with pytest.raises(DataError, match=r"episodes\.jsonl must be writable, got a full disk"):
        log.append(_result(), trial="policy", seconds=1.0)
    assert log.finished("toy/line", "policy") == EpisodeLog(tmp_path, {}).finished("toy/line", "policy") == {}


@pytest.mark.parametrize(
    "write", [lambda path: _table().write_json(path), lambda path: write_report(path, _table(), title="a")]
)
def test_what_cannot_be_written_is_told_and_leaves_nothing(write, tmp_path):
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "kept").touch()
    with pytest.raises(DataError, match=r"path must be a file that can be written, got .*place.*Choose another"):
        write(tmp_path / "place")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept", "place"]


def test_a_report_whose_video_fails_keeps_the_one_before(tmp_path, monkeypatch):
    write_report(path := tmp_path / "report.html", _table(), title="before")

    def fails(*_, **__):
        raise DataError("the encoder gave up")

    monkeypatch.setattr("vla_kit.evaluation.report.encode_mp4", fails)
    shown = _result(pictures=np.zeros((3, 32, 32, 3), dtype=np.uint8))
    with pytest.raises(DataError, match="the encoder gave up"):
        write_report(path, _table(), title="after", episodes=[shown])
    assert "before" in path.read_text()
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]
