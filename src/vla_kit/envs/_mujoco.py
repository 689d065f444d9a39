"""MuJoCo, imported once with a renderer chosen.

MuJoCo reads `MUJOCO_GL` when it is first imported. If nobody imported it yet, importing this file sets `MUJOCO_GL=egl`
in the environment of the process unless it is set already: export it yourself (`osmesa`, `glfw`) to choose another
renderer.
"""

import os
import sys
from typing import Final

import vla_kit.envs._before_drawing  # noqa: F401 (triton before Mesa)
from vla_kit.envs.protocol import SimulationError
from vla_kit.errors import MissingExtraError

_APT: Final = "apt-get install -y libegl1 libegl-mesa0 libgl1 libgl1-mesa-dri libosmesa6"


def no_renderer(error: BaseException) -> SimulationError:
    """The error that names the missing system libraries, made from whatever the driver raised."""
    backend = os.environ.get("MUJOCO_GL", "")
    return SimulationError(
        f"MUJOCO_GL must name a renderer that works here, got {backend!r} ({type(error).__name__}: {error}). "
        f"On Debian or Ubuntu run: {_APT}"
    )


if "mujoco" not in sys.modules:
    os.environ.setdefault("MUJOCO_GL", "egl")
try:
    import mujoco
except ModuleNotFoundError as error:
    if error.name == "mujoco":
        raise MissingExtraError("mujoco", extra="metaworld") from error
    raise no_renderer(error) from error
except Exception as error:  # without EGL, PyOpenGL raises AttributeError and MuJoCo ImportError or RuntimeError
    raise no_renderer(error) from error

__all__ = ["check_renderer", "mujoco", "no_renderer"]


def check_renderer() -> None:
    """Refuse a renderer that would end the process instead of raising an error.

    Raises:
        SimulationError: If MuJoCo wants to open a window and there is no display.
    """
    context = getattr(mujoco.gl_context, "GLContext", None)
    wants_window = getattr(context, "__module__", "") == "mujoco.glfw" and sys.platform.startswith("linux")
    if wants_window and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise SimulationError(
            "MUJOCO_GL must be egl or osmesa where there is no display, got a MuJoCo that renders in windows. It was "
            "imported before vla_kit.envs could choose: export MUJOCO_GL=egl before starting Python."
        )
