"""A run that goes on from a checkpoint ends bit for bit where it would have ended; Lightning's loops take part."""

import hashlib

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from vla_kit.data.augment import ColorJitter
from vla_kit.errors import CheckpointError
from vla_kit.training.demonstrations import DemonstrationDataModule
from vla_kit.training.step_seed import StepSeed
from vla_kit.training.text_to_action import TextToActionDataModule
from vla_kit.training.vla_module import VLAModule

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")  # a resumed run must not add to the first's


def digest(tensors):
    """One word for tensors."""
    parts = [tensor.detach().contiguous().numpy().tobytes() for tensor in tensors]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:12]


class Record(Callback):
    """Batches and losses by number."""

    def __init__(self):
        self.batches = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        inputs = [tensor for _, tensor in sorted(batch.backbone_inputs.items())]
        self.batches.append((digest([batch.actions.values, batch.actions.mask, *inputs]), float(outputs["loss"])))


@pytest.fixture
def run(parts, make_set, tmp_path):
    sets = [make_set("arm"), make_set("crane", size=3, lengths=(9, 4))]

    def fit(name, *, ckpt=None, kind=DemonstrationDataModule, num_workers=0, batch_size=4, samples=None, **trainer):
        torch.manual_seed(0)
        module = VLAModule(**parts(), head_learning_rate=1e-2, backbone_warmup_steps=2, head_warmup_steps=2)
        torch.manual_seed(len(name))  # whatever came before a run must not matter
        settings = {"augment": ColorJitter()} if kind is DemonstrationDataModule else {}
        data = kind(
            sets=sets,
            batch_size=batch_size,
            samples_per_epoch=samples,
            num_workers=num_workers,
            validation_share=0.25,
            **settings,
        )
        record = Record()
        saved = ModelCheckpoint(
            tmp_path / name, filename="{step}", every_n_train_steps=1, save_top_k=-1, auto_insert_metric_name=False
        )
        fitted = Trainer(
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[StepSeed(), record, saved],
            **trainer,
        )
        fitted.fit(module, datamodule=data, ckpt_path=ckpt)
        return fitted, record, tmp_path / name

    return fit


def final(trainer):
    """Weights, optimiser and scheduler at the end."""
    optimizer = trainer.optimizers[0].state_dict()
    moments = [value for state in optimizer["state"].values() for value in state.values()]
    (config,) = trainer.lr_scheduler_configs
    return (
        trainer.global_step,
        digest(trainer.lightning_module.state_dict()[key] for key in dict(trainer.lightning_module.named_parameters())),
        digest(moments),
        [group["lr"] for group in optimizer["param_groups"]],
        config.scheduler.last_epoch,
    )


CASES = {
    "steps": {"max_steps": 6},
    "text": {"max_steps": 4, "kind": TextToActionDataModule},
    "epochs": {"max_epochs": 3, "samples": 9},
    "epochs and steps": {"max_steps": 7, "samples": 12},
    "accumulated": {"max_steps": 3, "accumulate_grad_batches": 2},
    "accumulated epochs": {"max_epochs": 2, "samples": 20, "accumulate_grad_batches": 2},
    "limited": {"max_epochs": 3, "samples": 40, "limit_train_batches": 2},
    "validated within": {"max_steps": 6, "val_check_interval": 2, "samples": 16},
    "validated never": {"max_steps": 4, "limit_val_batches": 0},
    "reloaded": {"max_epochs": 3, "samples": 8, "reload_dataloaders_every_n_epochs": 1},
}


@pytest.mark.parametrize("case", CASES)
def test_every_checkpoint_leads_to_the_same_end(case, run):
    settings = CASES[case]
    whole, record, folder = run("whole", **settings)
    assert len({batch for batch, _ in record.batches}) == len(record.batches)
    steps = sorted(int(path.stem) for path in folder.glob("*.ckpt"))
    per_step = settings.get("accumulate_grad_batches", 1)
    assert steps[0] == 1
    assert len(steps) >= 3
    for step in steps[:-1]:
        resumed, rest, _ = run(f"from {step}", ckpt=folder / f"{step}.ckpt", **settings)
        done = len(record.batches) - len(rest.batches)
        assert abs(done - step * per_step) < per_step, (case, step)
        assert rest.batches == record.batches[done:], (case, step)
        assert final(resumed) == final(whole), (case, step)


def test_with_other_workers(run):
    whole, record, folder = run("whole", max_steps=5)
    resumed, rest, _ = run("resumed", ckpt=folder / "2.ckpt", max_steps=5, num_workers=2)
    assert rest.batches == record.batches[2:]
    assert final(resumed) == final(whole)


def test_half_the_batch_size_goes_on_at_the_same_sample(run):
    _, _, folder = run("whole", max_steps=3)
    resumed, rest, _ = run("resumed", ckpt=folder / "2.ckpt", max_steps=4, batch_size=2)
    assert len(rest.batches) == 2
    assert resumed.datamodule.state_dict()["samples"] == 12 == 3 * 4
    with pytest.raises(CheckpointError, match=r"samples used so far \(8\), got 3 \* 1 = 3"):
        run("refused", ckpt=folder / "2.ckpt", max_steps=4, batch_size=3)


def test_a_second_run_begins_anew(run, tmp_path):
    first, record, _ = run("first", max_steps=2)
    data = first.datamodule
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        max_steps=1,
        callbacks=[again := Record()],
        enable_checkpointing=False,
    )
    trainer.fit(first.lightning_module, datamodule=data)
    assert again.batches[0][0] == record.batches[0][0]


def test_validating_a_checkpoint_needs_no_position(run):
    trainer, _, folder = run("whole", max_steps=2)
    trainer.validate(datamodule=trainer.datamodule, ckpt_path=folder / "1.ckpt")
