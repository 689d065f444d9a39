"""A compiled head answers what the plain one does. The hook that checks shapes cannot be traced, so scripts do it."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vla_kit.errors import MissingToolError
from vla_kit.heads import DiTHead
from vla_kit.heads.compiled import compile_head

SCRIPT = Path(__file__).with_name("compiled_head.py")


def small() -> DiTHead:
    return DiTHead(context_width=6, channels=4, width=16, depth=1, num_heads=2, mlp_hidden=32)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["joint", "cached", "state_and_anchor", "per_robot", "copies"])
def test_agrees_with_the_plain_head(case):
    done = subprocess.run([sys.executable, SCRIPT, case], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr


def test_names_stay_and_copies_are_their_own(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, **_: lambda *args: function(*args))
    monkeypatch.setattr("vla_kit.heads.compiled._check_compiler", lambda: None)
    head = small()
    keys = list(head.state_dict())
    compile_head(head)
    compile_head(head)  # a second time changes nothing
    assert list(head.state_dict()) == keys
    other = copy.deepcopy(head)
    assert head.condition.__self__ is head
    assert other.condition.__self__ is other


def test_a_machine_without_a_compiler_says_what_to_install(monkeypatch):
    head = small()
    monkeypatch.setenv("CXX", "no-such-compiler -O2")
    text = r"got no the compiler no-such-compiler.*Run: apt-get install -y g\+\+ python3-dev"
    with pytest.raises(MissingToolError, match=text):
        compile_head(head)
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": "/nowhere"})
    with pytest.raises(MissingToolError, match=r"and no the header /nowhere/Python\.h"):
        compile_head(head)
    assert head._compiled_call_impl is None
