"""How the public parts of `vla_kit.data.synthesis` are built and read."""

from pathlib import Path
from typing import Any

from contract_cases.probe import Case

from vla_kit.data.synthesis.arm import Arm, find_arm
from vla_kit.data.synthesis.arm_model import ArmModel

MJCF = """
<mujoco><worldbody><body name="carriage" pos="0 0 0.3">
  <joint name="x" type="slide" axis="1 0 0" range="-1 1" limited="true"/>
  <geom type="box" size="0.02 0.02 0.02"/>
  <body name="hand" pos="0 0 -0.1">
    <joint name="yaw" type="hinge" axis="0 0 1" range="-4 4" limited="true"/>
    <geom type="box" size="0.01 0.01 0.04"/>
  </body>
</body></worldbody></mujoco>
"""
DESCRIPTION = """
name: gantry
model: arm.xml
joints: [x, yaw]
home: [0.3, 0.0]
flange: hand
max_acceleration: [3.0, 6.0]
max_velocity: [1.0, 2.0]
radius_m: [0.3, 0.6]
"""


def describe(folder: Path) -> dict[str, Any]:
    (folder / "arm.xml").write_text(MJCF)
    return {
        "name": "gantry",
        "model": str(folder / "arm.xml"),
        "joints": ("x", "yaw"),
        "home": (0.3, 0.0),
        "flange": "hand",
        "max_acceleration": (3.0, 6.0),
        "radius_m": (0.3, 0.6),
        "tool_m": (0.0, 0.0, 0.14),
        "tool_quaternion_wxyz": (1.0, 0.0, 0.0, 0.0),
        "gripper": True,
        "fixed": {"x": 0.0},
        "max_velocity": (1.0, 2.0),
        "packages": str(folder),
    }


def make_file(folder: Path) -> str:
    describe(folder)
    (folder / "arm.yaml").write_text(DESCRIPTION)
    return str(folder / "arm.yaml")


CASES = [
    Case(Arm, describe, meant={"fixed": ("empty",)}),  # no other joint
    Case(ArmModel, lambda folder: {"arm": Arm(**describe(folder))}),
    Case(find_arm, lambda folder: {"name": make_file(folder)}, named={"name": "robots"}),  # as `synthesize` names them
]
WITHOUT_CASE: dict[str, str] = {
    "vla_kit.data.synthesis.planner.PlannedTrajectory": "what `plan` made",
    "vla_kit.data.synthesis.templates.DrawnTask": "what `draw_task` drew",
    "vla_kit.data.synthesis.templates.Grip": "a part of a task that `draw_task` drew",
    "vla_kit.data.synthesis.templates.Move": "a part of a task that `draw_task` drew",
    "vla_kit.data.synthesis.templates.Subtask": "a part of a task that `draw_task` drew",
    "vla_kit.data.synthesis.templates.Workspace": "made by `plan` of an Arm, which checks its numbers",
}
