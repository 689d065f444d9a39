"""Kinematics and collision checks of an arm, computed by MuJoCo."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from vla_kit.data.synthesis.arm import Arm
from vla_kit.errors import DataError, MissingExtraError, SettingError

try:
    import mujoco
except ImportError as error:
    raise MissingExtraError("mujoco", extra="synthesis") from error

__all__ = ["ArmModel"]

_ITERATIONS: Final = 60
_DAMPING: Final = 1e-3
_POSITION_M: Final = 1e-5
_ROTATION_RAD: Final = 1e-4
_LONGEST_STEP_RAD: Final = 0.3
_LIMIT_MARGIN_RAD: Final = 0.01
_HULL_VERTICES: Final = 48  # of a convex hull that stands for a link
_TOOL: Final = "vla_kit_tool"
_TABLE: Final = "vla_kit_table"


class ArmModel:
    """An arm on its table: where the tool is, which posture reaches a pose, and whether a posture touches anything.

    Links are the convex hulls of their collision meshes. Touching means any two links that are not neighbours, or a
    link and the table. Pairs that touch in the home posture, where nothing real does, are hulls larger than their
    links and are not looked at.

    Args:
        arm: Which arm.

    Raises:
        DataError: If the model cannot be read.
        SettingError: If it lacks a joint or the flange, or velocity limits are nowhere.
    """

    def __init__(self, arm: Arm) -> None:
        self.arm = arm
        path = Path(arm.model)
        if not path.is_file():
            raise SettingError(f"model must be a file, got {path}. Correct the path of {arm.name}.")
        try:
            spec, velocities = _read(path, arm)
            _add_tool_and_table(spec, arm)
            self._model = spec.compile()
        except SettingError:
            raise
        except (ValueError, ElementTree.ParseError) as error:
            raise DataError(f"{path} must be a URDF or MJCF that MuJoCo reads, got: {error}. Correct it.") from error
        self._data = mujoco.MjData(self._model)
        self._addresses = np.array([self._joint(name, "qposadr") for name in arm.joints])
        self._dofs = np.array([self._joint(name, "dofadr") for name in arm.joints])
        ranges = np.array([self._model.joint(name).range for name in arm.joints])
        unlimited = np.array([not self._model.joint(name).limited[0] for name in arm.joints])
        self.lower = np.where(unlimited, -2 * np.pi, ranges[:, 0])
        self.upper = np.where(unlimited, 2 * np.pi, ranges[:, 1])
        self.max_velocity = np.array(_velocities(arm, velocities))
        self.max_acceleration = np.array(arm.max_acceleration)
        for name, value in (arm.fixed or {}).items():
            self._data.qpos[self._joint(name, "qposadr")] = value
        self._tool = self._model.site(_TOOL).id
        self._jacobian = np.zeros((6, self._model.nv))
        self._ignored = np.empty(0, dtype=np.int64)
        self.home = np.array(arm.home)
        self._ignored = self._touching(self.home)
        self.home_yaw = self._yaw()

    def pose(self, joints: Float[ndarray, " joint"]) -> tuple[Float[ndarray, " 3"], Float[ndarray, "3 3"]]:
        """Position [m] and rotation matrix of the tool in the base's frame."""
        self._set(joints)
        return self._data.site_xpos[self._tool].copy(), self._data.site_xmat[self._tool].reshape(3, 3).copy()

    def solve(
        self,
        position: Float[ndarray, " 3"],
        rotation: Float[ndarray, "3 3"],
        *,
        near: Float[ndarray, " joint"],
    ) -> Float[ndarray, " joint"] | None:
        """A posture that puts the tool at a pose, found by damped least squares from `near`.

        Args:
            position: Of the tool in the base's frame [m].
            rotation: Of the tool in the base's frame.
            near: Where the search begins [rad].

        Returns:
            Joint positions within their limits, accurate to 10 micrometres and 0.1 mrad; None where none was found.
        """
        joints = np.array(near, dtype=np.float64)
        lower, upper = self.lower + _LIMIT_MARGIN_RAD, self.upper - _LIMIT_MARGIN_RAD
        for _ in range(_ITERATIONS):
            at, turned = self.pose(joints)
            error = np.concatenate([position - at, _rotation_error(rotation, turned)])
            if np.linalg.norm(error[:3]) < _POSITION_M and np.linalg.norm(error[3:]) < _ROTATION_RAD:
                return joints
            mujoco.mj_comPos(self._model, self._data)
            mujoco.mj_jacSite(self._model, self._data, self._jacobian[:3], self._jacobian[3:], self._tool)
            jacobian = self._jacobian[:, self._dofs]
            step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + _DAMPING**2 * np.eye(6), error)
            joints = joints + step * min(1.0, _LONGEST_STEP_RAD / max(np.abs(step).max(), 1e-12))
            joints = np.clip(joints, lower, upper)
        return None

    def collides(self, joints: Float[ndarray, " joint"]) -> bool:
        """Whether a posture touches the table or lets two links touch."""
        touching = self._touching(joints)
        return bool(touching.size and not np.isin(touching, self._ignored).all())

    def touches_table(self) -> bool:
        """Whether a link touched the table in the posture last looked at with `collides`."""
        table = self._model.geom(_TABLE).id
        return bool((self._data.contact.geom[self._data.contact.dist < 0] == table).any()) if self._data.ncon else False

    def tool_pose(self) -> tuple[Float[ndarray, " 3"], Float[ndarray, " 4"]]:
        """Position [m] and quaternion (scalar last, at least 0) of the tool in the posture last looked at."""
        quaternion = np.empty(4)
        mujoco.mju_mat2Quat(quaternion, self._data.site_xmat[self._tool])
        ordered = quaternion[[1, 2, 3, 0]]
        return self._data.site_xpos[self._tool].copy(), -ordered if ordered[3] < 0 else ordered

    def _joint(self, name: str, field: str) -> int:
        return int(getattr(self._model.joint(name), field)[0])

    def _set(self, joints: Float[ndarray, " joint"]) -> None:
        self._data.qpos[self._addresses] = joints
        mujoco.mj_kinematics(self._model, self._data)

    def _touching(self, joints: Float[ndarray, " joint"]) -> ndarray:
        """Numbers of the pairs of shapes that touch."""
        self._set(joints)
        mujoco.mj_collision(self._model, self._data)
        if not self._data.ncon:
            return np.empty(0, dtype=np.int64)
        pairs = np.sort(self._data.contact.geom, axis=1).astype(np.int64)
        numbers: ndarray = (pairs[:, 0] * self._model.ngeom + pairs[:, 1])[self._data.contact.dist < 0]
        return numbers

    def _yaw(self) -> float:
        _, rotation = self.pose(self.home)
        return float(np.arctan2(rotation[1, 0], rotation[0, 0]))


def _rotation_error(wanted: ndarray, found: ndarray) -> ndarray:
    """Rotation from one orientation to the other as a vector in the base's frame."""
    quaternion, vector = np.empty(4), np.empty(3)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(wanted @ found.T).reshape(-1))
    mujoco.mju_quat2Vel(vector, quaternion, 1.0)
    return vector


def _read(path: Path, arm: Arm) -> tuple[mujoco.MjSpec, dict[str, float]]:
    root = ElementTree.parse(path).getroot()
    if root.tag != "robot":
        return mujoco.MjSpec.from_file(str(path)), {}
    packages = Path(arm.packages) if arm.packages is not None else path.parent
    velocities: dict[str, float] = {}
    for joint in root.findall("joint"):
        limit = joint.find("limit")
        if limit is not None and limit.get("velocity") is not None:
            velocities[joint.get("name", "")] = float(limit.get("velocity", "0"))
    for link in root.findall("link"):
        for visual in link.findall("visual"):  # often in formats that MuJoCo does not read
            link.remove(visual)
        for number, collision in enumerate(link.findall("collision")):
            collision.set("name", f"{link.get('name')}_{number}")
    for mesh in root.iter("mesh"):
        name = mesh.get("filename", "").removeprefix("file://")
        inside = name.startswith("package://")
        base = packages if inside else path.parent
        mesh.set("filename", str(base / name.removeprefix("package://")))
    settings = ElementTree.SubElement(root, "mujoco")
    ElementTree.SubElement(
        settings, "compiler", strippath="false", fusestatic="false", discardvisual="true", balanceinertia="true"
    )
    return mujoco.MjSpec.from_string(ElementTree.tostring(root, encoding="unicode")), velocities


def _add_tool_and_table(spec: mujoco.MjSpec, arm: Arm) -> None:
    names = {body.name for body in spec.bodies}
    if arm.flange not in names:
        raise SettingError(f"flange must be among the links {sorted(names)}, got {arm.flange!r}. Correct it.")
    joints = {joint.name for joint in spec.joints}
    missing = [name for name in (*arm.joints, *(arm.fixed or {})) if name not in joints]
    if missing:
        raise SettingError(f"joints must be among {sorted(joints)}, got {missing}. Correct the names of {arm.name}.")
    flange = spec.body(arm.flange) if hasattr(spec, "body") else spec.find_body(arm.flange)
    flange.add_site(name=_TOOL, pos=arm.tool_m, quat=arm.tool_quaternion_wxyz)
    if arm.gripper:
        tool, box = flange.add_body(pos=arm.tool_m, quat=arm.tool_quaternion_wxyz), mujoco.mjtGeom.mjGEOM_BOX
        length = float(np.linalg.norm(arm.tool_m))
        palm = (length - 0.06) / 2
        tool.add_geom(type=box, size=(0.025, 0.05, palm - 0.005), pos=(0.0, 0.0, palm + 0.005 - length))
        for side in (-1.0, 1.0):
            tool.add_geom(type=box, size=(0.01, 0.006, 0.033), pos=(0.0, side * 0.046, -0.025))
    for mesh in spec.meshes:
        mesh.maxhullvert = _HULL_VERTICES
    spec.worldbody.add_geom(name=_TABLE, type=mujoco.mjtGeom.mjGEOM_BOX, size=(2.0, 2.0, 0.05), pos=(0.0, 0.0, -0.05))


def _velocities(arm: Arm, found: dict[str, float]) -> tuple[float, ...]:
    if arm.max_velocity is not None:
        return arm.max_velocity
    missing = [name for name in arm.joints if not found.get(name)]
    if missing:
        raise SettingError(
            f"max_velocity must be given for {arm.name}, whose model holds none for {missing}. "
            "Take them from the maker's data sheet [rad/s]."
        )
    return tuple(found[name] for name in arm.joints)
