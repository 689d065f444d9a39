"""An exponential moving average of the weights, through the command line."""

from pathlib import Path

import torch

from vla_kit.cli import VLACLI
from vla_kit.training.vla_module import VLAModule

QUICK = ["--trainer.val_check_interval=2", "--trainer.log_every_n_steps=1", "--checkpoint.every_n_train_steps=2"]


def test_the_average_is_saved_evaluated_and_goes_on(stacked, tmp_path):
    arguments = [*stacked("fit", "stage3_sft.yaml", "callbacks/ema.yaml"), *QUICK]
    arguments += [f"--trainer.default_root_dir={tmp_path}", "--model.head_warmup_steps=0"]
    VLACLI([*arguments, "--trainer.max_steps=2"])
    last = tmp_path / Path("checkpoints") / "last.ckpt"
    first = torch.load(last, weights_only=True)
    learning = [key for key in first["state_dict"] if key.startswith("head.") and "weight" in key]
    assert any(not torch.equal(first["state_dict"][key], first["current_model_state"][key]) for key in learning)
    assert int(first["averaging_state"]["n_averaged"]) == 2

    restored = VLAModule.load_from_checkpoint(last, weights_only=True, map_location="cpu")
    assert all(torch.equal(entry, first["state_dict"][key]) for key, entry in restored.named_parameters())

    VLACLI([*arguments, "--trainer.max_steps=4", f"--ckpt_path={last}"])
    assert int(torch.load(last, weights_only=True)["averaging_state"]["n_averaged"]) == 4
