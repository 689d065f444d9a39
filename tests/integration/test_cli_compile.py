"""A compiled head, through the command line: averaged, saved and resumed under the names of a plain run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vla_kit.training.vla_module import VLAModule

MAIN = Path(__file__).parents[2] / "examples" / "qwen_vla" / "main.py"
QUICK = ["--trainer.val_check_interval=2", "--trainer.log_every_n_steps=1", "--checkpoint.every_n_train_steps=2"]
QUICK += ["--trainer.precision=32-true", "--model.head_warmup_steps=0"]
QUICK += ["--model.final_learning_rate=1.0"]  # the same rates for two steps as for the first two of four


def run(arguments, folder, *, steps, more=()):
    """In a process of its own, for the tests' hook that checks shapes cannot be traced."""
    command = [*arguments, *QUICK, f"--trainer.default_root_dir={folder}", f"--trainer.max_steps={steps}", *more]
    quiet = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, MAIN, *command], capture_output=True, text=True, check=False, env=quiet)
    assert done.returncode == 0, done.stdout + done.stderr
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.slow
def test_a_compiled_run_is_saved_averaged_and_resumed_as_a_plain_one(stacked, tmp_path):
    plain = stacked("fit", "stage3_sft.yaml", "callbacks/ema.yaml")
    compiled = stacked("fit", "stage3_sft.yaml", "callbacks/compile.yaml", "callbacks/ema.yaml")
    expected = run(plain, tmp_path / "plain", steps=4)
    run(compiled, tmp_path / "compiled", steps=2)
    last = tmp_path / "compiled" / "checkpoints" / "last.ckpt"
    found = run(compiled, tmp_path / "compiled", steps=4, more=[f"--ckpt_path={last}"])
    for part in ("state_dict", "current_model_state"):
        assert list(found[part]) == list(expected[part])
        for name, value in found[part].items():
            torch.testing.assert_close(value, expected[part][name], atol=2e-5, rtol=1e-3)
    assert int(found["averaging_state"]["n_averaged"]) == 4
    VLAModule.load_from_checkpoint(last, weights_only=True, map_location="cpu")
