"""Every example of one part inside somebody else's policy runs as its readers run it, and reaches what it claims."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples" / "reuse").glob("*.py"))


def numbers(text: str, pattern: str) -> list[float]:
    """The first group of every match."""
    return [float(found) for found in re.findall(pattern, text)]


CLAIMS: dict[str, Callable[[str], bool]] = {
    "action_error": lambda text: "arm/position_1: 0.020 m\n" in text and "base/waypoint_0: 0.010 m\n" in text,
    "closed_loop": lambda text: "seeing: 100 of 100" in text and numbers(text, r"difference ([\d.]+)")[0] > 0.9,
    "embodiment_prompter": lambda text: (
        numbers(text, r"prompt: +([\d.]+)")[0] < 0.1 < numbers(text, r"alone: ([\d.]+)")[0]
    ),
    "flow_head": lambda text: numbers(text, r"the spot: ([\d.]+)")[0] < 0.3,
    "flow_path": lambda text: max(numbers(text, r"\(steps=\d+\): ([\d.]+)")) < 0.25,
    "flow_ppo": lambda text: numbers(text, r"(\d+)% near")[0] < 50 < 90 < numbers(text, r"(\d+)% near")[-1],
    "joint_loss": lambda text: numbers(text, r"total ([\d.]+)")[-1] < 0.1 * numbers(text, r"total ([\d.]+)")[0],
    "lerobot_reader": lambda text: "4 episodes, 80 frames, 10 Hz" in text,
    "lightning_module": lambda text: numbers(text, r"mean error ([\d.]+)")[0] < 0.1,
    "masked_actions": lambda text: numbers(text, r"error ([\d.]+)")[-1] < 0.01,
    "mixture": lambda text: "arm 240, base 80 of 320" in text and "unbroken run: True" in text,
    "own_backbone": lambda text: numbers(text, r"val/error/dot\W+([\d.]+)")[0] < 0.1,
    "policy_server": lambda text: "actions (16, 7), the first [0.20" in text and "DataError: message of" in text,
    "quantile_normalizer": lambda text: "same actions: True" in text,
    "timm_backbone": lambda text: numbers(text, r"([\d.]+) squares off")[-1] < 0.3,
    "tiny_backbone": lambda text: numbers(text, r"error ([\d.]+)")[-1] < 0.2,
    "view_tags": lambda text: numbers(text, r"special tokens: (\d+)")[0] < numbers(text, r"plain text: (\d+)")[0] / 5,
}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_example_reaches_its_claim(example: Path, tmp_path: Path):
    env = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, str(example)], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert CLAIMS[example.stem](done.stdout), done.stdout[-2000:]
    assert not list(tmp_path.iterdir()), "an example leaves nothing behind where it was started"


def test_every_example_is_listed_and_short():
    table = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    for example in EXAMPLES:
        assert f"`python examples/reuse/{example.name}`" in table
        code = [line for line in example.read_text(encoding="utf-8").splitlines() if line.strip()]
        assert len(code) <= 75, f"{example.name} has {len(code)} lines; show one part"
