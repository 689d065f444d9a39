"""What a run says of itself."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from vla_kit.data.family_shares import paper_shares
from vla_kit.errors import SettingError
from vla_kit.training.demonstrations import DemonstrationDataModule
from vla_kit.training.run_status import RunStatus, frozen_modules
from vla_kit.training.vla_module import VLAModule


def test_frozen_modules_by_hand():
    model = nn.ModuleDict({"eye": nn.Sequential(nn.Linear(2, 2), nn.ReLU()), "arm": nn.Linear(2, 2)})
    assert frozen_modules(model) == []
    model["eye"].requires_grad_(False)
    assert frozen_modules(model) == ["eye"]
    model["arm"].weight.requires_grad_(False)  # its bias learns
    assert frozen_modules(model) == ["eye"]
    assert frozen_modules(model.requires_grad_(False)) == [""]


FAMILIES = {"arm": "robot_manipulation", "crane": "navigation"}  # any but the arms' own would do


def fit(parts, sets, folder, *, steps, ckpt_path=None, shares=None):
    trainer = Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_steps=steps,
        callbacks=[RunStatus(every_n_steps=2)],
        logger=CSVLogger(folder),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    module = VLAModule(**parts(), freeze=["backbone.model.model.visual"], head_learning_rate=1e-2)
    data = DemonstrationDataModule(sets=sets, batch_size=3, samples_per_epoch=30, shares=shares)
    trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
    return trainer, json.loads((folder / "status.json").read_text())


def test_status_tells_what_learns_the_rates_and_what_was_seen_across_a_resume(parts, make_set, tmp_path):
    sets = [make_set("arm", size=2), make_set("crane", size=3)]
    trainer, status = fit(parts, sets, tmp_path / "run", steps=3)
    assert status["step"] == 3
    assert status["samples"] == 9  # three batches of three
    assert sum(entry["samples"] for entry in status["seen"].values()) == 9
    assert set(status["seen"]) == {"arm", "crane"}
    assert sum(entry["share"] for entry in status["seen"].values()) == pytest.approx(1, abs=1e-3)
    assert status["frozen"] == ["backbone.model.model.visual"]
    head = sum(entry.numel() for entry in trainer.lightning_module.head.parameters())
    assert status["parts"]["head"] == {"parameters": head, "learning": head}
    assert status["parts"]["backbone"]["learning"] < status["parts"]["backbone"]["parameters"]
    assert set(status["learning_rates"]) == {"backbone", "backbone_vectors", "head", "head_vectors"}

    trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert sum(torch.load(tmp_path / "last.ckpt", weights_only=True)["samples_seen"].values()) == 9
    _, again = fit(parts, sets, tmp_path / "run", steps=5, ckpt_path=tmp_path / "last.ckpt")
    assert again["samples"] == 15
    assert "seen/arm" in next((tmp_path / "run").rglob("metrics.csv")).read_text().splitlines()[0]
    assert again["seen_families"] == {}  # nobody named one


def test_status_counts_sets_and_the_papers_families_across_a_resume(parts, make_set, tmp_path):
    sets = [make_set("arm", size=2), make_set("crane", size=3), make_set("arm-2", size=2)]
    shares = paper_shares({**FAMILIES, "arm-2": "robot_manipulation"})
    trainer, status = fit(parts, sets, tmp_path / "run", steps=20, shares=shares)
    assert set(status["seen_sets"]) == {"arm", "crane", "arm-2"}
    expected = 60 * 7.5 / (74.2 + 7.5)  # 5.5 samples of the crane: the order keeps shares within one or two
    assert status["seen_families"]["navigation"]["samples"] == pytest.approx(expected, abs=2)
    assert status["seen_families"]["navigation"] == status["seen_sets"]["crane"] == status["seen"]["crane"]
    arms = [status["seen_sets"][name]["samples"] for name in ("arm", "arm-2")]
    assert status["seen_families"]["robot_manipulation"]["samples"] == sum(arms) == status["seen"]["arm"]["samples"]
    assert abs(arms[0] - arms[1]) <= 2

    trainer.save_checkpoint(tmp_path / "last.ckpt")
    _, again = fit(parts, sets, tmp_path / "run", steps=22, ckpt_path=tmp_path / "last.ckpt", shares=shares)
    seen = {key: sum(one["samples"] for one in again[key].values()) for key in ("seen_sets", "seen_families")}
    assert seen == {"seen_sets": 66, "seen_families": 66}
    log = next(Path(logger.log_dir) for logger in trainer.loggers) / "metrics.csv"
    assert "seen_family/navigation" in log.read_text().splitlines()[0]


def test_no_steps_between_writes_raise():
    with pytest.raises(SettingError, match="every_n_steps must be at least 1, got 0"):
        RunStatus(every_n_steps=0)


def test_counts_are_summed_over_processes_and_the_runs_before_count_once(module):
    class TwoProcesses:
        def reduce(self, tensor, *, reduce_op):
            assert reduce_op == "sum"
            return 2 * tensor

    status, checkpoint = RunStatus(), {}
    status.on_load_checkpoint(None, module, {"samples_seen": {"arm": 5, "boat": 1}})
    batch = SimpleNamespace(embodiments=("arm", "crane", "crane"), datasets=("a", "a", "b"))
    data = SimpleNamespace(families={"a": None, "b": "navigation", "c": None})
    trainer = SimpleNamespace(strategy=TwoProcesses(), datamodule=data, global_step=1)
    status.on_train_batch_end(trainer, module, {}, batch, 0)
    status.on_save_checkpoint(trainer, module, checkpoint)
    assert checkpoint["samples_seen"] == {"arm": 7, "boat": 1, "crane": 4}
    assert checkpoint["samples_seen_by_set"] == {"a": 4, "b": 2, "c": 0}
