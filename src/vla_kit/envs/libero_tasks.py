"""LIBERO's tasks in words, read from the installed package without importing it or its simulator."""

import runpy
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Final

from vla_kit.envs.disturbance import Disturbance
from vla_kit.envs.tasks import EnvTask
from vla_kit.errors import MissingExtraError, SettingError

__all__ = ["LIBERO_STEP_LIMITS", "libero_file", "libero_task", "libero_tasks"]

LIBERO_STEP_LIMITS: Final[Mapping[str, int]] = MappingProxyType(
    {"spatial": 220, "object": 280, "goal": 300, "10": 520, "90": 400}
)
"""Suite -> decisions after which an unsolved episode ends, as OpenVLA and openpi count them, settling left out."""

_SHAKE: Final = Disturbance(sigmas=(0.0, 0.1, 0.2), channels=(True, True, True, False, False, False, False))


def libero_tasks(suite: str) -> list[EnvTask]:
    """All tasks of a suite, in the order of the benchmark.

    Args:
        suite: `spatial`, `object`, `goal`, `10` (also called long) or `90`.

    Returns:
        Tasks `libero/<suite>-<index>`. `simulator_id` is `libero_<suite>/<name of the task>`, and the only sentence is
        the one that LIBERO's own loader gives: the file name in words, in lower case.

    Raises:
        SettingError: If there is no such suite.
        MissingExtraError: If LIBERO is not installed.

    Examples:
        ```python
        libero_tasks("object")[0].sentences  # ('pick up the alphabet soup and place it in the basket',)
        ```
    """
    if suite not in LIBERO_STEP_LIMITS:
        raise SettingError(f"suite must be one of {list(LIBERO_STEP_LIMITS)}, got {suite!r}. 10 is the long one.")
    return [
        EnvTask(
            name=f"libero/{suite}-{index}",
            simulator_id=f"libero_{suite}/{name}",
            embodiment="libero_panda",
            sentences=(_sentence(name),),
            disturbance=_SHAKE,
            view_tags=("cam_high", "cam_left_wrist"),
        )
        for index, name in enumerate(_names()[f"libero_{suite}"])
    ]


def libero_task(short: str) -> EnvTask:
    """Look up one task.

    Args:
        short: `<suite>-<index>`, such as `spatial-0`.

    Returns:
        The task.

    Raises:
        SettingError: If there is no such task.
        MissingExtraError: If LIBERO is not installed.

    Examples:
        ```python
        libero_task("goal-7").simulator_id  # 'libero_goal/turn_on_the_stove'
        ```
    """
    suite, _, index = short.rpartition("-")
    tasks = libero_tasks(suite) if suite in LIBERO_STEP_LIMITS else []
    if not (index.isdecimal() and int(index) < len(tasks)):
        raise SettingError(
            f"task of libero must be <suite>-<index> with a suite of {list(LIBERO_STEP_LIMITS)}, of which 90 has 90 "
            f"tasks and the others have 10, got {short!r}. Write it like 'spatial-0'."
        )
    return tasks[int(index)]


def libero_file(task: EnvTask, *, folder: str, suffix: str) -> Path:
    """A file of a task in the installed package.

    Args:
        task: A task of LIBERO.
        folder: `bddl_files` or `init_files`.
        suffix: `.bddl` for the scene and the goal, `.pruned_init` for the initial states of the benchmark.

    Returns:
        Its path.

    Raises:
        MissingExtraError: If LIBERO is not installed.
    """
    return _root() / folder / f"{task.simulator_id}{suffix}"


def _sentence(name: str) -> str:
    """`KITCHEN_SCENE3_turn_on_the_stove` -> `turn on the stove`, as LIBERO's own loader does."""
    words = name.split("_")
    scene = next((place for place, word in enumerate(words) if word.startswith("SCENE")), -1)
    return " ".join(words[scene + 1 :])


def _root() -> Path:
    spec = find_spec("libero")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("libero", extra="libero")
    return Path(next(iter(spec.submodule_search_locations))) / "libero"


@cache
def _names() -> dict[str, list[str]]:
    """Suite -> names of its tasks. The file holds this dictionary and nothing else; importing it would load torch."""
    found: dict[str, list[str]] = runpy.run_path(str(_root() / "benchmark" / "libero_suite_task_map.py"))[
        "libero_task_map"
    ]
    return found
