"""A process that has drawn a picture may still compile: Mesa's LLVM and triton's do not meet in the wrong order."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[3] / "src"
PROGRAM = """
from vla_kit.envs import make_env
env = make_env({task!r})
env.reset(1_000_000)
env.look()
import torch._dynamo
print("compiled code may follow")
"""


@pytest.mark.parametrize("task", ["metaworld/reach", "aloha/transfer-cube", "miniworld/find-object"])
def test_drawing_comes_before_compiling(task: str):
    pytest.importorskip("triton", reason="only triton has an LLVM that could meet Mesa's")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(task=task)],
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr[-1000:]}"
    assert "compiled code may follow" in done.stdout
