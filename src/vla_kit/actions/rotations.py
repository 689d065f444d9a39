"""Rotations as data sets store them, and the way between any two forms."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import roma
import torch
from jaxtyping import Float
from torch import Tensor

from vla_kit.errors import SettingError, ShapeError

__all__ = [
    "ROTATION_SIZES",
    "RotationForm",
    "convert_rotation",
    "from_matrix",
    "rotation_angle",
    "rotation_defect",
    "to_matrix",
]

RotationForm = Literal["axis_angle", "euler_xyz", "quaternion_xyzw", "quaternion_wxyz", "rotation_6d", "matrix"]
"""How a rotation is written down.

- `axis_angle`: unit axis times angle [rad], 3 numbers; the angle is given back in [0, pi], at pi with
  either axis.
- `euler_xyz`: roll, pitch, yaw [rad] about the fixed axes x, y, z: `R = Rz(yaw) Ry(pitch) Rx(roll)`, as URDF and
  BridgeData write them and SciPy calls `"xyz"`; pitch in [-pi/2, pi/2]. At pitch +-pi/2 roll and yaw turn about one
  axis, and yaw is given back as 0.
- `quaternion_xyzw`, `quaternion_wxyz`: unit quaternion, scalar last or first; given back with a scalar of at least 0.
- `rotation_6d`: the first column of the matrix, then the second (Zhou et al.).
- `matrix`: all nine entries, row after row.
"""

ROTATION_SIZES: Final[Mapping[RotationForm, int]] = MappingProxyType(
    {
        "axis_angle": 3,
        "euler_xyz": 3,
        "quaternion_xyzw": 4,
        "quaternion_wxyz": 4,
        "rotation_6d": 6,
        "matrix": 9,
    }
)
"""Numbers of each form."""


def to_matrix(rotation: Float[Tensor, "*batch size"], form: RotationForm) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix of a rotation in any form.

    Numbers that are almost a rotation, such as a network's, are taken to a near one: quaternions are scaled to norm 1,
    6d rotations go through Gram-Schmidt, matrices to the nearest rotation. Rows of NaN stay NaN and touch no other.

    Args:
        rotation: Rotations in `form`.
        form: How they are written down.

    Returns:
        Rotation matrices that act on column vectors from the left, in the dtype of `rotation`.

    Raises:
        SettingError: If `form` is unknown.
        ShapeError: If the last axis has not the size of `form`.

    Examples:
        >>> to_matrix(torch.tensor([0.0, 0.0, torch.pi / 2]), "axis_angle").round(decimals=3) + 0.0
        tensor([[ 0., -1.,  0.],
                [ 1.,  0.,  0.],
                [ 0.,  0.,  1.]])
    """
    _check(rotation, form)
    matrix: Tensor
    if form == "axis_angle":
        matrix = roma.rotvec_to_rotmat(rotation)
    elif form == "euler_xyz":
        matrix = _of_euler(rotation)
    elif form == "rotation_6d":
        matrix = roma.special_gramschmidt(rotation.unflatten(-1, (2, 3)).mT)
    elif form == "matrix":
        entries = rotation.unflatten(-1, (3, 3))
        known = entries.isfinite().all(dim=(-2, -1), keepdim=True)
        nearest = roma.special_procrustes(torch.where(known, entries, torch.eye(3).to(entries)))
        matrix = torch.where(known, nearest, torch.nan)
    else:
        scalar_last = rotation if form == "quaternion_xyzw" else rotation.roll(-1, dims=-1)
        matrix = roma.unitquat_to_rotmat(roma.quat_normalize(scalar_last))
    return matrix


def from_matrix(matrix: Float[Tensor, "*batch 3 3"], form: RotationForm) -> Float[Tensor, "*batch size"]:
    """Inverse of `to_matrix`, in the ranges that `RotationForm` states.

    Args:
        matrix: Rotation matrices.
        form: How to write them down.

    Returns:
        Rotations in `form`, in the dtype of `matrix`.

    Raises:
        SettingError: If `form` is unknown.
        ShapeError: If the last two axes are not `(3, 3)`.

    Examples:
        >>> from_matrix(torch.eye(3), "quaternion_wxyz")
        tensor([1., 0., 0., 0.])
    """
    if form not in ROTATION_SIZES:
        raise SettingError(f"form must be one of {tuple(ROTATION_SIZES)}, got {form!r}. Choose one.")
    if tuple(matrix.shape[-2:]) != (3, 3):
        raise ShapeError(f"matrix must have the shape (..., 3, 3), got {tuple(matrix.shape)}. Give rotation matrices.")
    numbers: Tensor
    if form == "rotation_6d":
        numbers = matrix[..., :2].mT.flatten(-2)
    elif form == "matrix":
        numbers = matrix.flatten(-2)
    elif form == "euler_xyz":
        numbers = _to_euler(matrix)
    else:
        quaternion = roma.rotmat_to_unitquat(matrix)
        if form == "axis_angle":
            numbers = roma.unitquat_to_rotvec(quaternion)
        else:
            numbers = torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)
            numbers = numbers if form == "quaternion_xyzw" else numbers.roll(1, dims=-1)
    return numbers


def convert_rotation(
    rotation: Float[Tensor, "*batch size"], source: RotationForm, target: RotationForm
) -> Float[Tensor, "*batch target_size"]:
    """Write rotations down in another form; equal forms bring them into the ranges that `RotationForm` states.

    Args:
        rotation: Rotations.
        source: Their form.
        target: The form wanted.

    Raises:
        SettingError: If a form is unknown.
        ShapeError: If the last axis has not the size of `source`.

    Examples:
        >>> convert_rotation(torch.tensor([0.0, 0.0, 0.6, 0.8]), "quaternion_xyzw", "axis_angle").round(decimals=4)
        tensor([0.0000, 0.0000, 1.2870])
    """
    return from_matrix(to_matrix(rotation, source), target)


def rotation_defect(rotation: Float[Tensor, "*batch size"], form: RotationForm) -> Float[Tensor, "*batch"]:
    """How far numbers are from a rotation. A stored column whose defect is not small means something else.

    It is 0 for every angle, `|norm - 1|` for a quaternion, and for 6d and matrix the largest entry of
    `columns^T columns - identity`, plus 1 for a mirror.

    Args:
        rotation: Numbers that should be rotations.
        form: How they should be written down.

    Examples:
        >>> rotation_defect(torch.tensor([[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.5]]), "quaternion_xyzw")
        tensor([0.0000, 0.5000])
    """
    _check(rotation, form)
    if form in ("axis_angle", "euler_xyz"):
        return torch.zeros_like(rotation[..., 0])
    if form.startswith("quaternion"):
        distance: Tensor = (rotation.norm(dim=-1) - 1).abs()
        return distance
    columns = rotation.unflatten(-1, (2, 3)).mT if form == "rotation_6d" else rotation.unflatten(-1, (3, 3))
    products = columns.mT @ columns - torch.eye(columns.shape[-1]).to(columns)
    defect: Tensor = products.abs().amax(dim=(-2, -1))
    if form == "matrix":
        defect = defect + (torch.linalg.det(columns) < 0).to(defect)
    return defect


def rotation_angle(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    """Angle of rotations in radians, from 0 to pi; exact near 0, where an arc cosine of the trace is not.

    Args:
        matrix: Rotation matrices.

    Examples:
        >>> rotation_angle(to_matrix(torch.tensor([0.0, 3e-4, 0.0]), "axis_angle"))
        tensor(0.0003)
    """
    skew = (matrix - matrix.mT)[..., [2, 0, 1], [1, 2, 0]]
    return torch.atan2(skew.norm(dim=-1), matrix.diagonal(dim1=-2, dim2=-1).sum(-1) - 1)


def _of_euler(angles: Tensor) -> Tensor:
    """`Rz(yaw) Ry(pitch) Rx(roll)`, written out, which is much faster than products of quaternions."""
    (sr, sp, sy), (cr, cp, cy) = angles.sin().unbind(-1), angles.cos().unbind(-1)
    rows = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    matrix: Tensor = torch.stack([entry for row in rows for entry in row], dim=-1).unflatten(-1, (3, 3))
    return matrix


def _to_euler(matrix: Tensor) -> Tensor:
    """Roll, pitch, yaw. Yaw is what the roll found leaves over, so it makes up for its error near pitch +-pi/2."""
    cosine = torch.hypot(matrix[..., 0, 0], matrix[..., 1, 0])
    pitch = torch.atan2(-matrix[..., 2, 0], cosine)
    locked = cosine < 8 * torch.finfo(matrix.dtype).eps
    roll = torch.where(
        locked,
        torch.atan2(-matrix[..., 1, 2], matrix[..., 1, 1]),
        torch.atan2(matrix[..., 2, 1], matrix[..., 2, 2]),
    )
    second = matrix[..., 1] * roll.cos()[..., None] - matrix[..., 2] * roll.sin()[..., None]
    yaw = torch.where(locked & matrix.isfinite().all(dim=(-2, -1)), 0, torch.atan2(-second[..., 0], second[..., 1]))
    return torch.stack([roll, pitch, yaw], dim=-1)


def _check(rotation: Tensor, form: RotationForm) -> None:
    if form not in ROTATION_SIZES:
        raise SettingError(f"form must be one of {tuple(ROTATION_SIZES)}, got {form!r}. Choose one.")
    if rotation.ndim == 0 or rotation.shape[-1] != ROTATION_SIZES[form]:
        raise ShapeError(
            f"rotation must have the shape (..., {ROTATION_SIZES[form]}) as {form}, got {tuple(rotation.shape)}. "
            "Name the form in which it is written."
        )
