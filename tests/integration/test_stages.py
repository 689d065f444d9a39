"""The paper's stages one after another, each from the weights of the one before, on recorded demonstrations."""

from pathlib import Path

import pytest
import torch

from vla_kit.cli import VLACLI
from vla_kit.errors import CheckpointError

QUICK = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.log_every_n_steps=1"]
QUICK += ["--checkpoint.every_n_train_steps=2", "--trainer.limit_val_batches=1"]
LAST = Path("checkpoints") / "last.ckpt"


def run(stacked, folder, *files, before=None, more=()):
    warm = [] if before is None else [f"--warm_start.checkpoint={before / LAST}"]
    return VLACLI([*stacked("fit", *files), *QUICK, f"--trainer.default_root_dir={folder}", *warm, *more])


@pytest.mark.slow
def test_text_to_action_then_pretraining_then_both_fine_tunings(stacked, tmp_path):
    stages = ["stage1_t2a.yaml", "stage2_cpt.yaml", "stage3_sft_multi.yaml", "stage3_sft_single.yaml"]
    still = ["--model.head_learning_rate=0", "--model.backbone_learning_rate=0", "--model.weight_decay=0"]
    before = None
    for number, stage in enumerate(stages):
        folder = tmp_path / Path(stage).stem
        command = run(stacked, folder, stage, before=before, more=still if number else ())
        assert command.trainer.global_step == 2
        if before is not None:  # nothing learns, so the weights are those of the stage before
            start = torch.load(before / LAST, weights_only=True)["state_dict"]
            for name, parameter in command.model.named_parameters():
                assert torch.equal(parameter.detach(), start[name]), name
        before = folder
    assert command.model.prompter.names == ("aloha_transfer",)


@pytest.mark.slow
def test_the_frozen_variant_trains_the_head_alone(stacked, tmp_path):
    command = run(stacked, tmp_path, "stage1_t2a.yaml", "stage1_t2a_chunks.yaml", "stage1_t2a_frozen.yaml")
    assert not any(parameter.requires_grad for parameter in command.model.backbone.parameters())
    assert [group["part"] for group in command.trainer.optimizers[0].param_groups] == ["head", "head"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "horizons", "pictures"),
    [
        (["stage1_t2a.yaml"], {4, 5}, False),
        (["stage1_t2a.yaml", "stage1_t2a_chunks.yaml"], {16}, False),
        (["stage1_t2a.yaml", "stage1_t2a_pictures.yaml"], {16}, True),
    ],
)
def test_variants_of_text_to_action_differ_in_length_and_pictures(files, horizons, pictures, stacked, tmp_path):
    command = run(stacked, tmp_path, *files)
    batch = next(iter(command.datamodule.train_dataloader()))
    assert batch.actions.values.shape[1] in horizons
    assert ("pixel_values" in batch.backbone_inputs) == pictures
    assert type(command.model.flow_loss.time_sampler).__name__ == "SigmoidNormalTime"


@pytest.mark.slow
def test_multi_task_fine_tuning_balances_robots_and_sentences(stacked, tmp_path):
    command = run(stacked, tmp_path, "stage3_sft_multi.yaml")
    shares = command.datamodule.train_dataloader().mixture.shares
    assert shares == {"metaworld: open the drawer": 0.5, "aloha: open the drawer": 0.5}
    assert command.model.prompter.spec("navigation").chunk_size == 8
    assert (command.model.loss.action_weight, command.model.loss.language_weight) == (1.0, 0.1)


@pytest.mark.parametrize("stage", ["stage2_cpt.yaml", "stage3_sft_multi.yaml", "stage3_sft_single.yaml"])
def test_a_stage_without_its_predecessor_says_so(stage, stacked, tmp_path):
    with pytest.raises(CheckpointError, match=r"checkpoint must be a file, got .*Run the stage before first"):
        run(stacked, tmp_path / "now", stage, before=tmp_path / "never")
