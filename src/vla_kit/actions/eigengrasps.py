"""Eigengrasps: the few numbers per hand that say most of what 15 finger joints do."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vla_kit.actions.hand_layout import FINGER_JOINTS, NUM_GRASPS, HandSide
from vla_kit.actions.hand_mirror import mirror_fingers
from vla_kit.actions.rotations import rotation_angle, to_matrix
from vla_kit.errors import DataError, SettingError, ShapeError

__all__ = ["EigengraspBasis", "joint_angles_between"]

_SIZE = 3 * len(FINGER_JOINTS)


class EigengraspBasis(nn.Module):
    """Weights of orthonormal directions in the space of finger poses, and back: `weights = (pose - mean) directions^T`.

    Poses are those of a right hand; a left hand's are mirrored first (`mirror_fingers`), so one basis serves both.
    `decode(encode(pose))` is the nearest pose that the directions reach, and `encode(decode(weights))` gives `weights`
    back. Mean and directions are buffers in float32: a checkpoint carries them, and nothing is unpickled.

    Args:
        mean: Mean finger pose, 45 axis-angle numbers [rad] in the order of `FINGER_JOINTS`.
        directions: Orthonormal rows, the first one along which poses vary most.

    Raises:
        ShapeError: If there are not 45 numbers, or more than 45 directions or none.
        DataError: If a number is not finite, or directions are not orthonormal to 1e-4.

    Examples:
        >>> basis = EigengraspBasis(torch.zeros(45), torch.eye(45)[:10])
        >>> basis.encode(torch.arange(45.0))
        tensor([0., 1., 2., 3., 4., 5., 6., 7., 8., 9.])
        >>> basis.decode(torch.ones(10)).sum()
        tensor(10.)

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.2: 10 PCA weights of MANO's 45 finger numbers, fitted once over all
        human data. `vla_kit.data.hand_grasps.fit_eigengrasps` fits them.
    """

    mean: Tensor
    directions: Tensor

    def __init__(self, mean: Float[Tensor, " 45"], directions: Float[Tensor, "grasp 45"]) -> None:
        super().__init__()
        if tuple(mean.shape) != (_SIZE,) or directions.ndim != 2 or directions.shape[1] != _SIZE:
            raise ShapeError(
                f"mean and directions must have the shapes ({_SIZE},) and (grasp, {_SIZE}), got {tuple(mean.shape)} "
                f"and {tuple(directions.shape)}. Give axis-angle numbers of {len(FINGER_JOINTS)} joints."
            )
        if not 1 <= len(directions) <= _SIZE:
            raise ShapeError(f"directions must be 1 to {_SIZE}, got {len(directions)}. Qwen-VLA takes {NUM_GRASPS}.")
        if not bool(mean.isfinite().all() and directions.isfinite().all()):
            raise DataError("mean and directions must be finite, got NaN or infinity. Fit them on known poses alone.")
        exact = directions.detach().double()
        defect = float((exact @ exact.mT - torch.eye(len(exact)).to(exact)).abs().max())
        if defect > 1e-4:
            raise DataError(
                f"directions must be orthonormal to 1e-4, got products off by {defect:.2g}. Normalise the rows; MANO's "
                "components are orthonormal as they are."
            )
        self.register_buffer("mean", mean.detach().clone().float())
        self.register_buffer("directions", directions.detach().clone().float())

    @classmethod
    def from_mano(
        cls,
        components: Any,  # noqa: ANN401 (a list, NumPy or torch)
        mean: Any,  # noqa: ANN401 (as above)
        *,
        side: HandSide = "right",
        count: int = NUM_GRASPS,
    ) -> "EigengraspBasis":
        """Take the PCA of a MANO model that you have: its arrays `hands_components` and `hands_mean`.

        MANO comes under its own licence and as a pickle, which runs whatever code its author wrote when it is opened.
        vla-kit ships no MANO file and unpickles none; open yours where you trust it, and give the two arrays.

        Args:
            components: `hands_components`, shape (45, 45).
            mean: `hands_mean`, 45 numbers; zeros for a model of a flat mean hand (`flat_hand_mean=True`).
            side: Hand of the model. The left one is mirrored.
            count: Directions to keep.

        Raises:
            ShapeError: If shapes differ.
            DataError: If the arrays are no PCA.
            SettingError: If there is no such hand, or `count` lies outside of [1, 45].

        Examples:
            >>> EigengraspBasis.from_mano(torch.eye(45), torch.zeros(45)).directions.shape
            torch.Size([10, 45])
        """
        if not 1 <= count <= _SIZE:
            raise SettingError(f"count must lie in [1, {_SIZE}], got {count}. Qwen-VLA takes {NUM_GRASPS}.")
        rows, middle = torch.as_tensor(components).double(), torch.as_tensor(mean).double()
        if side == "left":
            rows, middle = mirror_fingers(rows), mirror_fingers(middle)
        elif side != "right":
            raise SettingError(f"side must be 'left' or 'right', got {side!r}. Name the hand of the model.")
        return cls(middle.float(), rows[:count].float())

    @property
    def count(self) -> int:
        """Number of weights."""
        return len(self.directions)

    def encode(self, fingers: Float[Tensor, "*batch 45"]) -> Float[Tensor, "*batch grasp"]:
        """Weights of finger poses of a right hand [rad]."""
        return (fingers - self.mean.to(fingers)) @ self.directions.to(fingers).mT

    def decode(self, weights: Float[Tensor, "*batch grasp"]) -> Float[Tensor, "*batch 45"]:
        """Finger poses of a right hand [rad], whose weights these are."""
        return weights @ self.directions.to(weights) + self.mean.to(weights)

    def reconstruction_error(self, fingers: Float[Tensor, "frame 45"]) -> Float[Tensor, " 15"]:
        """How far each joint turns away on the way to weights and back [degree], mean over frames.

        Args:
            fingers: Finger poses of a right hand, at least one.
        """
        exact = fingers.double()
        return joint_angles_between(self.decode(self.encode(exact)), exact).mean(dim=0).to(fingers.dtype)

    def extra_repr(self) -> str:
        """Number of weights, for printing."""
        return f"count={self.count}"


def joint_angles_between(
    fingers: Float[Tensor, "*batch 45"], other: Float[Tensor, "*batch 45"]
) -> Float[Tensor, "*batch 15"]:
    """Angle of the rotation from each joint of one finger pose to that of another [degree].

    Args:
        fingers: Axis-angle numbers [rad] of 15 joints.
        other: The same.

    Examples:
        >>> bent = torch.zeros(45)
        >>> bent[2] = torch.pi / 2
        >>> joint_angles_between(torch.zeros(45), bent)[:2]
        tensor([90.,  0.])
    """
    first, second = (to_matrix(pose.double().unflatten(-1, (-1, 3)), "axis_angle") for pose in (fingers, other))
    return torch.rad2deg(rotation_angle(first.mT @ second)).to(fingers.dtype)
