"""A head that runs through torch.compile and keeps its names."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import nn

from vla_kit.errors import MissingToolError

__all__ = ["compile_head"]


def compile_head(head: nn.Module) -> None:
    """Compile a head in place: its `forward`, and its `condition` where it has one.

    The keys of its state dict stay, copies of it are independent, and results agree with those of the plain head to
    rounding. Sizes of batch, context and chunk may change from call to call without compiling anew, save that 1 is a
    case of its own, and so is a chunk shorter than the horizon of an `AnchoredHead`. What depends on words, such as a
    projection for single robots, stays uncompiled.

    Args:
        head: `DiTHead`, a head around it, or any module with `forward` and perhaps `condition`. One that is compiled
            stays as it is.

    Raises:
        MissingToolError: If the machine has no C++ compiler, or Python came without its headers.

    Examples:
        >>> from vla_kit.heads import DiTHead
        >>> head = DiTHead(context_width=6, channels=4, width=16, depth=2, num_heads=2, mlp_hidden=32)
        >>> keys = list(head.state_dict())
        >>> compile_head(head)  # compiles at the first call  # doctest: +SKIP
        >>> list(head.state_dict()) == keys
        True
    """
    if "condition" in vars(head) or head._compiled_call_impl is not None:
        return
    _check_compiler()
    head.compile(dynamic=True)
    if hasattr(head, "condition"):
        kind: Any = type(head)
        # A method, not a closure: a deep copy of the head binds it to the copy.
        vars(head)["condition"] = MethodType(torch.compile(kind.condition, dynamic=True), head)


def _check_compiler() -> None:
    if sys.platform == "win32":
        return  # compilers are not found by name there; torch reports what it misses
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++").split()[0]
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    missing = [f"the compiler {compiler}"] if shutil.which(compiler) is None else []
    missing += [] if header.is_file() else [f"the header {header}"]
    if missing:
        raise MissingToolError(
            f"torch.compile must find a C++ compiler and Python's headers, got no {' and no '.join(missing)}. "
            "Run: apt-get install -y g++ python3-dev. Or leave compilation out."
        )
