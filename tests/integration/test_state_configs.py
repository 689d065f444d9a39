"""The three files of configs/state, each through training, checkpoints, validation, prediction and closed loop."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_kit.cli import VLACLI, main
from vla_kit.embodiment import preset
from vla_kit.errors import CheckpointError, DataError
from vla_kit.heads import StateTokenHead
from vla_kit.policy import Policy, PolicyObservation
from vla_kit.training.vla_module import VLAModule

LAST = Path("checkpoints") / "last.ckpt"
QUICK = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--checkpoint.every_n_train_steps=2"]
QUICK += ["--trainer.limit_val_batches=1", "--trainer.limit_predict_batches=1"]
ROBOTS = ("metaworld_sawyer", "aloha_transfer")


def fit(stacked, folder, *files, more=()):
    return VLACLI([*stacked("fit", *files), *QUICK, f"--trainer.default_root_dir={folder}", *more])


def observe(name, value=0.0):
    return PolicyObservation(
        embodiment=name,
        instruction="open the drawer",
        views={"cam_high": torch.zeros(3, 96, 96, dtype=torch.uint8)},
        state=np.full(preset(name).state_space.size, value),
    )


@pytest.mark.parametrize("variant", ["none", "prompt", "token"])
def test_trains_reloads_validates_predicts_and_acts(variant, stacked, tmp_path):
    """Text to action, fine-tuning from its weights, and everything that follows."""
    file = f"state/{variant}.yaml"
    fit(stacked, tmp_path / "t2a", "stage1_t2a.yaml", file)
    warm = f"--warm_start.checkpoint={tmp_path / 't2a' / LAST}"
    trained = fit(stacked, tmp_path / "sft", "stage3_sft.yaml", file, more=[warm]).model
    checkpoint = tmp_path / "sft" / LAST

    restored = VLAModule.load_from_checkpoint(checkpoint, weights_only=True, map_location="cpu")
    assert all(torch.equal(a, b) for a, b in zip(restored.parameters(), trained.parameters(), strict=True))
    assert isinstance(restored.head, StateTokenHead) == (variant == "token")
    assert restored.prompter.state_bins == (256 if variant == "prompt" else None)
    if variant == "none":
        assert restored.state_normalizer is None
    else:
        assert restored.state_normalizer.fingerprints == trained.state_normalizer.fingerprints
        assert set(restored.state_normalizer.embodiments) == set(ROBOTS)

    for verb in ("validate", "predict"):
        command = VLACLI([*stacked(verb, "stage3_sft.yaml", file), *QUICK[3:], f"--ckpt_path={checkpoint}"])
    assert command.trainer.global_step == 0

    policy = Policy.from_module(restored)
    chunks = policy.act([observe(name) for name in ROBOTS])
    assert [chunk.shape for chunk in chunks] == [(16, 4), (16, 14)]


@pytest.mark.parametrize("variant", ["prompt", "token"])
def test_acts_in_closed_loop(variant, stacked, tmp_path):
    if importlib.util.find_spec("metaworld") is None:  # importing it here would choose the renderer
        pytest.skip("metaworld is not installed")
    fit(stacked, tmp_path, "stage3_sft.yaml", f"state/{variant}.yaml", more=["--trainer.limit_val_batches=0"])
    arguments = [
        "--checkpoint",
        str(tmp_path / LAST),
        "--tasks",
        "[metaworld/reach]",
        "--output",
        str(tmp_path / "out"),
    ]
    main(["evaluate", *arguments, "--episodes=1", "--baseline_episodes=0", "--replan_every=16", "--record=0"])
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["tasks"][0]["episodes"] == 1


@pytest.mark.slow
def test_each_stage_takes_each_state(stacked, tmp_path):
    for stage in ("stage1_t2a_chunks.yaml", "stage2_cpt.yaml", "stage3_sft_multi.yaml", "stage3_sft_single.yaml"):
        files = [stage] if stage != "stage1_t2a_chunks.yaml" else ["stage1_t2a.yaml", stage]
        for variant in ("prompt", "token"):
            for order in ([*files, f"state/{variant}.yaml"], [f"state/{variant}.yaml", *files]):
                command = VLACLI([*stacked("fit", *order), "--trainer.fast_dev_run=true"])
                assert command.model.state_normalizer.embodiments
                assert command.model.prompter.state_bins == (256 if variant == "prompt" else None)


def test_the_last_of_several_files_decides(stacked):
    for first in ("prompt", "token"):
        order = ["stage3_sft.yaml", f"state/{first}.yaml", "state/none.yaml"]
        model = VLACLI([*stacked("fit", *order), "--trainer.fast_dev_run=true"]).model
        assert (model.state_normalizer, model.prompter.state_bins) == (None, None)
        assert not isinstance(model.head, StateTokenHead)
    order = ["stage3_sft.yaml", "state/prompt.yaml", "state/token.yaml"]
    model = VLACLI([*stacked("fit", *order), "--trainer.fast_dev_run=true"]).model
    assert (type(model.head), model.prompter.state_bins) == (StateTokenHead, None)


def test_a_state_that_the_data_lack_is_refused_before_training(stacked, tmp_path):
    block = "{root: data/demo/aloha, embodiment: aloha_transfer, views: {cam_high: observation.images.cam_high}}"
    (tmp_path / "without.yaml").write_text(f"data: {{init_args: {{sets: [{block}]}}}}")
    with pytest.raises(DataError, match=r"state must name the columns of the state of 'aloha_transfer'"):
        fit(stacked, tmp_path, "stage3_sft.yaml", "state/prompt.yaml", tmp_path / "without.yaml")


@pytest.mark.slow
def test_weights_without_a_token_do_not_fit_a_head_with_one(stacked, tmp_path):
    fit(stacked, tmp_path / "t2a", "stage1_t2a.yaml")
    warm = [f"--warm_start.checkpoint={tmp_path / 't2a' / LAST}"]
    with pytest.raises(CheckpointError, match=r"missing: head\."):
        fit(stacked, tmp_path / "sft", "stage3_sft.yaml", "state/token.yaml", more=warm)
    fit(stacked, tmp_path / "sft", "stage3_sft.yaml", "state/prompt.yaml", more=warm)
