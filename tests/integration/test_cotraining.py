"""Robots and conversations from one configuration, on the tiny model."""

import csv
import json

import pytest
import torch

from vla_kit.cli import VLACLI


def fit(stacked, folder, *more):
    return VLACLI(
        [
            *stacked("fit", "data/cotraining.yaml", "stage3_sft.yaml"),
            "--trainer.callbacks+={class_path: vla_kit.training.gradient_balance.GradientBalance,"
            " init_args: {every_n_steps: 1}}",
            "--data.batch_size=8",
            "--data.conversations=[{path: data/vl/captions.jsonl, weight: 1}]",
            "--data.validation_share=0.5",
            "--trainer.log_every_n_steps=1",
            "--trainer.val_check_interval=2",
            "--checkpoint.every_n_train_steps=2",
            f"--trainer.default_root_dir={folder}",
            *more,
        ]
    )


def metrics(folder, version):
    with (folder / "logs" / f"version_{version}" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def logged(rows, name):
    return [float(row[name]) for row in rows if row.get(name)]


def test_a_mixture_trains_validates_and_resumes(stacked, tmp_path):
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    command = fit(stacked, whole, "--trainer.max_steps=4")
    rows = metrics(whole, 0)
    for name in ("train/loss", "train/language", "train/loss/metaworld_sawyer", "val/loss", "val/language"):
        values = logged(rows, name)
        assert values, name
        assert all(0 < value < 100 for value in values), name
    assert 1 <= len(logged(rows, "gradient/ratio")) <= 4
    status = json.loads((whole / "status.json").read_text())
    assert status["samples"] == 32
    shares = {name: seen["samples"] / 32 for name, seen in status["seen_sets"].items()}
    assert shares == {name: pytest.approx(1 / 3, abs=0.1) for name in ("metaworld", "aloha", "captions")}
    assert sum(seen["samples"] for seen in status["seen"].values()) < 32

    batch = next(iter(command.datamodule.train_dataloader()))
    assert len(batch) == 8
    assert len(batch.embodiments) + batch.conversations == 8
    assert (batch.backbone_inputs["labels"][: len(batch.embodiments)] == -100).all()

    fit(stacked, parted, "--trainer.max_steps=2")
    fit(stacked, parted, "--trainer.max_steps=4", f"--ckpt_path={parted / 'checkpoints' / 'last.ckpt'}")
    first, second = (
        torch.load(one / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for one in (whole, parted)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
