"""Robot arms that trajectories are planned for: where the model lies, and what the model does not say."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, distribution
from math import isfinite
from pathlib import Path
from typing import Any, Final

import yaml

from vla_kit.errors import MissingExtraError, SettingError

__all__ = ["Arm", "arm_names", "find_arm"]

_PACKAGE: Final = "example-robot-data"
_SHARE: Final = "cmeel.prefix/share"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A single arm on a table: its model file and what such files leave open.

    The base stands on the table, whose top is at height 0 of the base; x points away from the robot, y to its left.
    The tool's z axis points out of the gripper, its y axis is the one that the fingers move along.

    Args:
        name: Name of the robot; the folder of its data set and its embodiment.
        model: URDF or MJCF file.
        joints: Names of the arm's joints, base first. Other joints stay where `fixed` puts them.
        home: Posture to start from, gripper down [rad]. Trajectories begin near it.
        flange: Link that carries the tool.
        tool_m: Tool centre in the flange's frame, between the fingertips.
        tool_quaternion_wxyz: Tool frame in the flange's frame.
        gripper: Add a parallel gripper of three boxes to the flange, where the model has none.
        fixed: Joint -> value that it keeps, such as open fingers.
        max_velocity: Limit of each joint [rad/s]; the URDF's where None.
        max_acceleration: Limit of each joint [rad/s^2]; no format holds it.
        radius_m: Nearest and farthest distance of objects from the base.
        packages: Where `package://` of mesh names leads to; the folder of the model where None.

    Raises:
        SettingError: If a name is empty, a number is not finite or out of range, or the numbers of joints, home and
            limits differ.
    """

    name: str
    model: str
    joints: tuple[str, ...]
    home: tuple[float, ...]
    flange: str
    max_acceleration: tuple[float, ...]
    radius_m: tuple[float, float]
    tool_m: tuple[float, float, float] = (0.0, 0.0, 0.14)
    tool_quaternion_wxyz: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    gripper: bool = False
    fixed: Mapping[str, float] | None = None
    max_velocity: tuple[float, ...] | None = None
    packages: str | None = None

    def __post_init__(self) -> None:
        for key in ("name", "model", "flange", "joints", "packages"):
            if (value := getattr(self, key)) is not None and not value:
                raise SettingError(f"{key} must not be empty, got {value!r} for {self.name!r}. Describe the arm.")
        for key in ("home", "max_acceleration", "max_velocity"):
            values = getattr(self, key)
            if values is not None and len(values) != len(self.joints):
                raise SettingError(
                    f"{key} must hold one number per joint ({len(self.joints)}), got {len(values)}. "
                    f"The joints of {self.name} are {list(self.joints)}."
                )
        for key, count in (("radius_m", 2), ("tool_m", 3), ("tool_quaternion_wxyz", 4)):
            if len(values := getattr(self, key)) != count:
                raise SettingError(f"{key} must hold {count} numbers, got {values}. Correct it for {self.name}.")
        for key in ("home", "max_acceleration", "max_velocity", "radius_m", "tool_m", "tool_quaternion_wxyz"):
            values = getattr(self, key) or ()
            if not all(isinstance(value, int | float) and isfinite(value) for value in values):
                raise SettingError(f"{key} must hold finite numbers, got {values}. Correct it for {self.name}.")
        for key in ("max_acceleration", "max_velocity"):
            if min(values := getattr(self, key) or (1.0,)) <= 0:
                raise SettingError(f"{key} must hold limits above 0, got {values}. Correct it for {self.name}.")
        for joint, value in (self.fixed or {}).items():
            if not isinstance(value, int | float) or not isfinite(value):
                raise SettingError(f"fixed must hold finite numbers, got {value!r} for {joint}. Correct it.")
        if not any(self.tool_quaternion_wxyz):
            raise SettingError("tool_quaternion_wxyz must turn, got zeros. Use (1, 0, 0, 0) for no turn.")
        if not 0 < self.radius_m[0] < self.radius_m[1]:
            raise SettingError(f"radius_m must rise from above 0, got {self.radius_m}. Give nearest and farthest.")


def arm_names() -> tuple[str, ...]:
    """Names of the arms that are known without a file of the user's.

    Examples:
        >>> arm_names()
        ('panda', 'ur3', 'ur5', 'ur10', 'xarm7', 'z1')
    """
    return tuple(_KNOWN)


def find_arm(name: str) -> Arm:
    """A known arm by its name, or an arm described in a YAML file.

    Args:
        name: One of `arm_names()`, or a path that ends in `.yaml` or `.yml`, whose keys are the arguments of `Arm`;
            `model` and `packages` are taken from the file's folder.

    Raises:
        SettingError: If the name is unknown or the file does not describe an arm.
        MissingExtraError: If the package with the models is not installed.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        return _read_arm(Path(name))
    if name not in _KNOWN:
        raise SettingError(f"robots must be among {list(_KNOWN)} or YAML files, got {name!r}. Choose one of them.")
    try:
        share = Path(str(distribution(_PACKAGE).locate_file(_SHARE)))
    except PackageNotFoundError as error:
        raise MissingExtraError(_PACKAGE, extra="synthesis") from error
    settings = dict(_KNOWN[name])
    model = share / "example-robot-data" / "robots" / settings.pop("model")
    return Arm(name=name, model=str(model), packages=str(share), **settings)


def _read_arm(path: Path) -> Arm:
    if not path.is_file():
        raise SettingError(f"robots must name files that exist, got {path}. Correct the path.")
    try:
        described = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} must be YAML, got: {error}. Correct the file.") from error
    known = {field.name for field in fields(Arm)}
    if not isinstance(described, dict) or not set(described) <= known:
        raise SettingError(f"{path} must hold keys among {sorted(known)}, got {described!r}. Correct the file.")
    settings: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in described.items()
    }
    for key in ("model", "packages"):
        if settings.get(key) is not None:
            settings[key] = str(path.parent / settings[key])
    try:
        return Arm(**settings)
    except SettingError as error:
        raise SettingError(f"{path}: {error}") from error
    except (TypeError, AttributeError) as error:
        raise SettingError(f"{path} must describe an arm, got: {error}. Add the missing keys.") from error


def _universal(model: str, radius_m: tuple[float, float]) -> dict[str, Any]:
    return {
        "model": f"ur_description/urdf/{model}_robot.urdf",
        "joints": (
            "shoulder_pan_joint",
            "shoulder_lift_joint",
            "elbow_joint",
            "wrist_1_joint",
            "wrist_2_joint",
            "wrist_3_joint",
        ),
        "home": (0.0, -1.7, 1.9, -1.77, -1.5708, 0.0),
        "flange": "tool0",
        "gripper": True,
        "max_acceleration": (5.0,) * 6,
        "radius_m": radius_m,
    }


_KNOWN: Final[dict[str, dict[str, Any]]] = {
    "panda": {
        "model": "panda_description/urdf/panda.urdf",
        "joints": tuple(f"panda_joint{number}" for number in range(1, 8)),
        "home": (0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785),
        "flange": "panda_hand",
        "tool_m": (0.0, 0.0, 0.1034),
        "fixed": {"panda_finger_joint1": 0.04, "panda_finger_joint2": 0.04},
        "max_acceleration": (15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0),
        "radius_m": (0.35, 0.62),
    },
    "ur3": _universal("ur3", (0.22, 0.36)),
    "ur5": _universal("ur5", (0.35, 0.65)),
    "ur10": _universal("ur10", (0.45, 0.9)),
    "xarm7": {
        "model": "xarm_description/urdf/xarm7.urdf",
        "joints": tuple(f"joint{number}" for number in range(1, 8)),
        "home": (0.0, -0.3, 0.0, 1.0, 0.0, 1.3, 0.0),
        "flange": "link7",
        "gripper": True,
        "max_acceleration": (10.0,) * 7,
        "radius_m": (0.3, 0.52),
    },
    "z1": {
        "model": "z1_description/urdf/z1.urdf",
        "joints": tuple(f"joint{number}" for number in range(1, 7)),
        "home": (0.0, 1.64, -1.37, 1.3, 0.0, 0.0),
        "flange": "gripperStator",
        "tool_m": (0.135, 0.0, 0.0),
        "tool_quaternion_wxyz": (0.5, 0.5, 0.5, 0.5),
        "fixed": {"jointGripper": -0.5},
        "max_acceleration": (8.0,) * 6,
        "radius_m": (0.2, 0.3),
    },
}
