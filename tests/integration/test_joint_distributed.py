"""Processes whose batches lack actions, language, answers or pictures train as one process does that has them all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parent / "joint_run.py"


def trained(strategy, place):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), strategy, str(place)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return torch.load(place, weights_only=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return trained("alone", tmp_path_factory.mktemp("alone") / "weights.pt")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_train_as_one(strategy, alone, tmp_path):
    found = trained(strategy, tmp_path / "weights.pt")
    assert found.keys() == alone.keys()
    torch.manual_seed(1)
    first = 0.1 * torch.randn(320, 32)  # as the script begins
    assert not torch.allclose(found["backbone.model.lm_head.weight"], first, atol=1e-4)
    for name, weight in alone.items():
        torch.testing.assert_close(
            found[name], weight, atol=2e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )
