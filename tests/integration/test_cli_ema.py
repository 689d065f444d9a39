"""An exponential moving average of the weights, through the command line."""

from pathlib import Path

import torch

from vla_kit.cli import VLACLI
from vla_kit.training.vla_module import VLAModule

QUICK = ["--trainer.val_check_interval=2", "--trainer.log_every_n_steps=1", "--checkpoint.every_n_train_steps=2"]
LAST = Path("checkpoints") / "last.ckpt"


def run(stacked, folder, steps, *more):
    """A run with a constant learning rate, so that its length changes no step of it."""
    constant = ["--model.head_warmup_steps=0", "--model.backbone_warmup_steps=0", "--model.final_learning_rate=1"]
    arguments = [*stacked("fit", "stage3_sft.yaml", "callbacks/ema.yaml"), *QUICK, *constant, *more]
    VLACLI([*arguments, f"--trainer.default_root_dir={folder}", f"--trainer.max_steps={steps}"])
    return torch.load(folder / LAST, weights_only=True)


def learning(content):
    return [key for key in content["state_dict"] if key.startswith("head.") and "weight" in key]


def test_the_average_is_saved_evaluated_and_goes_on(stacked, tmp_path):
    first = run(stacked, tmp_path, 2)
    assert any(not torch.equal(first["state_dict"][key], first["current_model_state"][key]) for key in learning(first))
    assert int(first["averaging_state"]["n_averaged"]) == 2

    restored = VLAModule.load_from_checkpoint(tmp_path / LAST, weights_only=True, map_location="cpu")
    assert all(torch.equal(entry, first["state_dict"][key]) for key, entry in restored.named_parameters())

    again = run(stacked, tmp_path, 4, f"--ckpt_path={tmp_path / LAST}")
    assert int(again["averaging_state"]["n_averaged"]) == 4


def test_a_run_that_ends_between_checkpoints_keeps_both_and_goes_on_bit_for_bit(stacked, tmp_path):
    ended = run(stacked, tmp_path / "ended", 3)
    assert ended["global_step"] == int(ended["averaging_state"]["n_averaged"]) == 3
    assert any(not torch.equal(ended["state_dict"][key], ended["current_model_state"][key]) for key in learning(ended))

    whole = run(stacked, tmp_path / "whole", 5)
    resumed = run(stacked, tmp_path / "ended", 5, f"--ckpt_path={tmp_path / 'ended' / LAST}")
    assert whole["global_step"] == resumed["global_step"] == 5
    for part in ("state_dict", "current_model_state", "averaging_state"):
        assert whole[part].keys() == resumed[part].keys()
        for key, entry in whole[part].items():
            assert torch.equal(entry, resumed[part][key]), (part, key)
