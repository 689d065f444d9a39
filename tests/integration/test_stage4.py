"""The last stage through the command line: all four in sequence, what it leaves, and how it goes on."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_kit.cli import VLACLI
from vla_kit.errors import CheckpointError, SettingError
from vla_kit.evaluation import read_curve
from vla_kit.policy import PolicyObservation
from vla_kit.training.flow_ppo import FlowPPOModule
from vla_kit.training.policy_checkpoint import load_policy
from vla_kit.training.vla_module import VLAModule

LAST = Path("checkpoints") / "last.ckpt"
QUICK = ["--trainer.max_steps=2", "--trainer.limit_val_batches=0", "--trainer.log_every_n_steps=1"]
SHORT = ["--data.init_args.tasks=[metaworld/drawer-close]", "--model.minibatch_size=4"]
SHORT += ["--model.weight_decay=0.1"]  # moves what learns, whether or not an episode succeeds


def run(stacked, folder, stage, *, before=None, more=()):
    warm = [] if before is None else [f"--warm_start.checkpoint={before / LAST}"]
    settings = SHORT if stage.startswith("stage4") else QUICK
    return VLACLI([*stacked("fit", stage), *settings, f"--trainer.default_root_dir={folder}", *warm, *more])


@pytest.mark.slow
def test_four_stages_in_sequence(stacked, tmp_path):
    before = None
    for stage in ("stage1_t2a.yaml", "stage2_cpt.yaml", "stage3_sft.yaml", "stage4_rl.yaml"):
        folder = tmp_path / stage
        command = run(stacked, folder, stage, before=before)
        before = folder
    assert type(command.model) is FlowPPOModule
    start, end = (
        torch.load(tmp_path / stage / LAST, weights_only=True)["state_dict"] for stage in ("stage3_sft.yaml", stage)
    )
    assert {key.partition(".")[0] for key in set(end) - set(start)} == {"value_head"}
    moved = {key.partition(".")[0] for key in start if not torch.equal(start[key], end[key])}
    assert moved == {"head"}  # the backbone is frozen

    success = read_curve(folder, "rollout/success/metaworld/drawer-close")
    assert len(success) == 2
    spent = [read_curve(folder, f"time/{part}")[-1][1] for part in ("simulation", "policy", "learning")]
    assert sum(spent) == pytest.approx(1.0)
    status = json.loads((folder / "status.json").read_text())
    assert status["frozen"] == ["backbone"]
    assert status["seen_sets"]["metaworld/drawer-close"]["samples"] == status["samples"] > 0

    policy = load_policy(folder / LAST, temperature=0.6)
    seen = PolicyObservation(
        embodiment="metaworld_sawyer",
        instruction="close the drawer",
        views={"cam_high": np.zeros((96, 96, 3), dtype=np.uint8)},
    )
    assert policy.act([seen])[0].shape == (16, 4)
    policy.save(tmp_path / "policy")

    longer = run(stacked, folder, "stage4_rl.yaml", more=["--trainer.max_epochs=3", f"--ckpt_path={folder / LAST}"])
    assert longer.datamodule.played == 3
    assert len(read_curve(folder, "rollout/success")) == 3
    with pytest.raises(CheckpointError, match="checkpoint must fit the model"):
        run(stacked, tmp_path / "narrow", "stage4_rl.yaml", before=folder, more=["--model.head.init_args.horizon=8"])


def test_practice_without_the_stage_before_says_so(stacked, tmp_path):
    asked = [argument for argument in stacked("fit", "stage4_rl.yaml") if argument != "--warm_start.checkpoint=null"]
    with pytest.raises(CheckpointError, match=r"checkpoint must be a file, got runs/sft/checkpoints/last\.ckpt"):
        VLACLI([*asked, *SHORT, f"--trainer.default_root_dir={tmp_path}"])


@pytest.mark.parametrize("name", ["nothing", "vla_kit.training.vla_module.Nothing", "vla_kit.heads.DiTHead"])
def test_a_module_that_is_none_is_refused(name, stacked):
    with pytest.raises(SettingError, match=f"module must (be the full name|name a subclass).*{name}"):
        VLACLI([*stacked("fit", "stage3_sft.yaml"), f"--module={name}"])


def test_the_module_of_a_file_gives_way_to_that_of_an_argument(stacked):
    with pytest.raises(SystemExit):  # FlowPPOModule needs a sampler
        VLACLI([*stacked("fit", "stage3_sft.yaml"), "--module", "vla_kit.training.flow_ppo.FlowPPOModule"])
    named = VLACLI([*stacked("fit", "stage1_t2a.yaml"), "--trainer.fast_dev_run=true"])
    assert type(named.model) is VLAModule
