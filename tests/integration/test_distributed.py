"""Two processes on CPUs (gloo) train as one does, with whole and with divided weights."""

import os
import subprocess
import sys
from inspect import signature
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.strategies import DeepSpeedStrategy
from safetensors.torch import load_file

from vla_kit.errors import CheckpointError, SettingError
from vla_kit.training.consolidate import consolidate_checkpoint
from vla_kit.training.vla_module import VLAModule

HERE = Path(__file__).parent
STRATEGIES = HERE.parents[1] / "examples" / "qwen_vla" / "configs" / "strategy"
STEPS = 4


def train(stacked, folder, log, *more):
    command = [
        *stacked("fit", "stage3_sft.yaml"),
        "--trainer.precision=32-true",
        "--model.backbone_warmup_steps=0",
        "--model.head_warmup_steps=0",
        "--model.final_learning_rate=1",
        f"--trainer.max_steps={STEPS}",
        "--trainer.limit_val_batches=0",
        "--trainer.callbacks+=__main__.LogLosses",
        "--checkpoint.every_n_train_steps=2",
        f"--trainer.default_root_dir={folder}",
        *more,
    ]
    environment = os.environ | {"LOSS_LOG": str(log), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(HERE / "distributed_run.py"), *command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def losses(log, rank=0):
    return [float(line) for line in Path(f"{log}.{rank}").read_text().splitlines()]


@pytest.fixture(scope="module")
def kept():
    return {}


@pytest.fixture
def alone(kept, stacked, tmp_path):
    """Losses of one process, those of each half of its batches; and its weights. Trained once."""
    if not kept:
        train(stacked, tmp_path / "alone", tmp_path / "alone.log", "--trainer.accumulate_grad_batches=2")
        found = losses(tmp_path / "alone.log")
        assert len(found) == 2 * STEPS
        kept["losses"] = [found[0::2], found[1::2]]
        kept["weights"] = weights(tmp_path / "alone" / "checkpoints" / "last.ckpt")
    return kept["losses"], kept["weights"]


def weights(checkpoint):
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def assert_close(found, expected):
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=1e-4, rtol=1e-3, msg=key)


@pytest.mark.slow
def test_two_whole_models_have_the_losses_and_weights_of_one(alone, stacked, tmp_path):
    expected, single = alone
    train(stacked, tmp_path / "two", tmp_path / "log", f"--config={STRATEGIES / 'ddp.yaml'}", "--trainer.devices=2")
    for rank in (0, 1):
        assert losses(tmp_path / "log", rank) == pytest.approx(expected[rank], abs=1e-4)
    assert_close(weights(tmp_path / "two" / "checkpoints" / "last.ckpt"), single)


@pytest.mark.slow
def test_a_divided_model_has_the_losses_and_weights_of_one_and_resumes(alone, stacked, tmp_path):
    expected, single = alone
    two = [f"--config={STRATEGIES / 'fsdp.yaml'}", "--trainer.devices=2"]
    train(stacked, tmp_path / "two", tmp_path / "log", *two, "--trainer.max_steps=2")
    last = tmp_path / "two" / "checkpoints" / "last.ckpt"
    assert sorted(path.name for path in last.parent.iterdir()) == ["last.ckpt"]
    assert {path.name for path in last.iterdir()} == {".metadata", "__0_0.distcp", "__1_0.distcp", "meta.pt"}
    train(stacked, tmp_path / "two", tmp_path / "log", *two, f"--ckpt_path={last}")
    for rank in (0, 1):
        assert losses(tmp_path / "log", rank) == pytest.approx(expected[rank], abs=1e-4)

    whole, plain = tmp_path / "whole.ckpt", tmp_path / "weights.safetensors"
    consolidate_checkpoint(str(last), str(whole))
    consolidate_checkpoint(str(last), str(plain))
    assert_close(weights(whole), single)
    assert_close(load_file(plain), single)
    restored = VLAModule.load_from_checkpoint(whole, weights_only=True, map_location="cpu")
    assert set(restored.normalizer.embodiments) == {"metaworld_sawyer", "aloha_transfer"}


def test_what_is_no_sharded_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="must be a folder that ShardedStrategy wrote"):
        consolidate_checkpoint(str(tmp_path), str(tmp_path / "out.ckpt"))


def test_the_output_is_a_new_file_of_a_known_kind(tmp_path):
    with pytest.raises(SettingError, match=r"must end in \.ckpt or \.safetensors"):
        consolidate_checkpoint(str(tmp_path), str(tmp_path / "out.bin"))
    (tmp_path / "out.ckpt").touch()
    with pytest.raises(SettingError, match="must not exist"):
        consolidate_checkpoint(str(tmp_path), str(tmp_path / "out.ckpt"))


def test_deepspeed_gets_settings_that_it_knows():
    settings = yaml.safe_load((STRATEGIES / "deepspeed.yaml").read_text())["trainer"]["strategy"]
    assert settings["class_path"] == "lightning.pytorch.strategies.DeepSpeedStrategy"
    assert settings["init_args"].keys() <= signature(DeepSpeedStrategy).parameters.keys()
