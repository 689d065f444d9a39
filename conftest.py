"""Every test run checks the shapes and dtypes that signatures promise."""

import os
from collections.abc import Iterator

import pytest
from jaxtyping import config, install_import_hook

CHECKED = ["vla_kit.actions", "vla_kit.flow", "vla_kit.embodiment", "vla_kit.heads", "vla_kit.losses"]

# The numeric tower lets an int stand where a float is promised, as Python and YAML users expect.
CHECKER = "beartype.beartype(conf=__import__('beartype').BeartypeConf(is_pep484_tower=True))"

collect_ignore = ["tests/contract/contract_cases"]  # data of the tests beside them, without examples of their own

install_import_hook(CHECKED, CHECKER)
os.environ.setdefault("MUJOCO_GL", "egl")  # as make does: whichever test imports MuJoCo first must not choose windows


@pytest.fixture
def shape_hook_off() -> Iterator[None]:
    """Let a wrong shape reach our own check, whose text the test wants to see."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
