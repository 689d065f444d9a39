"""What every data set of human hands comes down to: wrists and fingers of two hands, and the camera that saw them."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from vla_kit.errors import DataError, ShapeError

__all__ = ["HandRecord", "HandTrack"]

_DEFECT: Final = 1e-3  # of a rotation matrix in a frame in which the hand was seen


@dataclass(frozen=True, kw_only=True, eq=False)
class HandTrack:
    """One hand over an episode.

    A frame in which a number is NaN or infinite counts as one in which the hand was lost. Numbers of lost frames mean
    nothing and are replaced by the rest pose, so that nothing infinite travels on.

    Args:
        wrist: SE(3) of the wrist in the world, MANO's wrist frame; see `REST_BONES` for its axes.
        fingers: Axis-angle numbers [rad] of 15 joints in the order of `FINGER_JOINTS`, written as those of a right
            hand: a left hand's are mirrored.
        seen: True where the hand was seen.

    Raises:
        ShapeError: If lengths or sizes differ.
        DataError: If the wrist of a frame that was seen is not a rotation to 1e-3.

    Examples:
        >>> wrist = np.tile(np.eye(4), (2, 1, 1))
        >>> wrist[1, 0, 3] = np.nan
        >>> HandTrack(wrist=wrist, fingers=np.zeros((2, 45)), seen=np.array([True, True])).seen
        array([ True, False])
    """

    wrist: Float[ndarray, "step 4 4"]
    fingers: Float[ndarray, "step 45"]
    seen: Bool[ndarray, " step"]

    def __post_init__(self) -> None:
        steps = len(self.seen)
        if self.wrist.shape != (steps, 4, 4) or self.fingers.shape != (steps, 45):
            raise ShapeError(
                f"wrist and fingers must have the shapes ({steps}, 4, 4) and ({steps}, 45), got {self.wrist.shape} and "
                f"{self.fingers.shape}. Give one row per frame."
            )
        finite = np.isfinite(self.wrist).all(axis=(1, 2)) & np.isfinite(self.fingers).all(axis=1)
        seen = np.asarray(self.seen, dtype=bool) & finite
        wrist = np.where(seen[:, None, None], self.wrist, np.eye(4)).astype(np.float64)
        fingers = np.where(seen[:, None], self.fingers, 0.0).astype(np.float64)
        turn = wrist[:, :3, :3]
        defect = np.abs(turn @ turn.swapaxes(1, 2) - np.eye(3)).max(axis=(1, 2)) + (np.linalg.det(turn) < 0)
        if (defect > _DEFECT).any():
            frame = int(defect.argmax())
            raise DataError(
                f"wrist must be a rotation and a place in every frame that was seen, got a matrix that is off by "
                f"{defect[frame]:.2g} in frame {frame}. Rows and columns, or the numbers of a quaternion, may be "
                "exchanged."
            )
        for name, value in (("wrist", wrist), ("fingers", fingers), ("seen", seen)):
            object.__setattr__(self, name, value)

    @classmethod
    def lost(cls, steps: int) -> "HandTrack":
        """A hand that nobody saw."""
        return cls(
            wrist=np.tile(np.eye(4), (steps, 1, 1)), fingers=np.zeros((steps, 45)), seen=np.zeros(steps, dtype=bool)
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class HandRecord:
    """Two hands over an episode.

    Args:
        left: The left hand.
        right: The right hand.
        camera: SE(3) of the camera in the world; its x axis points right in the picture, y down, z forward. None where
            nobody knows.

    Raises:
        ShapeError: If lengths differ, or a camera pose is no matrix of 4 x 4.
        DataError: If a camera pose is not finite.
    """

    left: HandTrack
    right: HandTrack
    camera: Float[ndarray, "step 4 4"] | None = field(default=None)

    def __post_init__(self) -> None:
        lengths = [len(self.left.seen), len(self.right.seen)]
        lengths += [] if self.camera is None else [len(self.camera)]
        if len(set(lengths)) > 1:
            raise ShapeError(f"left, right and camera must have one row per frame, got {lengths}. Cut them to one.")
        if self.camera is not None and self.camera.shape[1:] != (4, 4):
            raise ShapeError(f"camera must have the shape (step, 4, 4), got {self.camera.shape}. Give poses as SE(3).")
        if self.camera is not None and not np.isfinite(self.camera).all():
            raise DataError("camera must be finite in every frame, got NaN or infinity. Drop the episode.")
