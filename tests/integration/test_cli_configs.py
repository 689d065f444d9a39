"""Every YAML file of the example runs: stacked on base.yaml, with the tiny size last."""

import re
from pathlib import Path

import pytest

from vla_kit.cli import VLACLI

CONFIGS = Path(__file__).parents[2] / "examples" / "qwen_vla" / "configs"
FILES = sorted(str(file.relative_to(CONFIGS)) for file in CONFIGS.rglob("*.yaml") if file.parent.name != "demo")


@pytest.mark.parametrize("name", FILES)
def test_runs_one_step(name, stacked, tmp_path):
    if "DeepSpeedStrategy" in (CONFIGS / name).read_text(encoding="utf-8"):
        pytest.skip("DeepSpeed trains on GPUs alone; test_distributed.py checks its settings")
    if "CompileHead" in (CONFIGS / name).read_text(encoding="utf-8"):
        pytest.skip("the hook that checks shapes cannot be traced; test_cli_compile.py runs it without")
    begin = []
    if name.endswith("_rl.yaml"):  # nothing is learned from the success of a policy without statistics
        before = ["--trainer.max_steps=1", "--trainer.limit_val_batches=0", f"--trainer.default_root_dir={tmp_path}"]
        VLACLI([*stacked("fit", "stage3_sft.yaml"), *before])
        begin = [f"--warm_start.checkpoint={tmp_path / 'checkpoints' / 'last.ckpt'}"]
    VLACLI([*stacked("fit", name), "--trainer.fast_dev_run=true", *begin])


@pytest.mark.parametrize("name", FILES)
def test_opens_with_what_command_and_assumptions(name):
    lines = (CONFIGS / name).read_text(encoding="utf-8").splitlines()
    assert [line.partition(":")[0] for line in lines[:3]] == ["# What", "# Run", "# Assumes"]


def test_the_readme_names_every_file():
    told = (CONFIGS.parent / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(configs/[^`]+\.yaml)`", told.partition("## Every configuration")[2]))
    assert named == {str(file.relative_to(CONFIGS.parent)) for file in CONFIGS.rglob("*.yaml")}
