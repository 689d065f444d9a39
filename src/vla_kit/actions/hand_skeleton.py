"""Hands as 21 points: a pose makes points, and points make a pose, whatever tracker saw them."""

from typing import Final

import roma
import torch
from jaxtyping import Float
from torch import Tensor

from vla_kit.actions.hand_layout import HAND_SIDES, HandSide
from vla_kit.actions.hand_mirror import mirror_pose
from vla_kit.actions.rotations import to_matrix
from vla_kit.errors import SettingError, ShapeError

__all__ = ["HAND_POINTS", "REST_BONES", "hand_points", "retarget_points"]

HAND_POINTS: Final = (
    "wrist",
    *(f"{finger}_{joint}" for finger in ("thumb", "index", "middle", "ring", "pinky") for joint in (1, 2, 3, "tip")),
)
"""The 21 points: the wrist, then each finger from the palm to its tip; the order of OpenPose and MANO's users."""

REST_BONES: Final = {
    "index": ((-92, -5, 22), (-36, 4, 3), (-25, -1, 0), (-28, 1, 0)),
    "middle": ((-99, -1, -3), (-35, 2, -6), (-26, -1, -4), (-28, 4, -4)),
    "pinky": ((-72, -11, -46), (-19, 0, -14), (-18, -1, -12), (-21, 1, -12)),
    "ring": ((-85, -4, -28), (-31, 2, -7), (-27, -2, -9), (-27, 4, -9)),
    "thumb": ((-26, -18, 26), (-22, 1, 26), (-24, -6, 16), (-30, -5, 24)),
}
"""Bones of a right hand at rest, flat, in the wrist frame [mm]: wrist to first joint, then joint to joint to tip.

The wrist frame is MANO's: fingers point along -x, the thumb along +z, the back of the hand along +y. The hand is that
of VITRA's published example episode (MIT), rounded to 1 mm. The fingers are in the order of `FINGER_JOINTS`.
"""


def hand_points(
    wrist: Float[Tensor, "*batch 4 4"],
    fingers: Float[Tensor, "*batch 45"],
    *,
    side: HandSide = "right",
    bones: Float[Tensor, "5 4 3"] | None = None,
) -> Float[Tensor, "*batch 21 3"]:
    """Where the joints of a hand are: forward kinematics.

    Args:
        wrist: SE(3) of the wrist in the world.
        fingers: Axis-angle numbers of 15 joints [rad], written as those of a right hand.
        side: Which hand it is; a left one is built in the mirror.
        bones: Bones of a right hand at rest [m], as in `REST_BONES`, which are taken where None.

    Returns:
        Points in the world [m], in the order of `HAND_POINTS`.

    Examples:
        >>> hand_points(torch.eye(4), torch.zeros(45))[8]
        tensor([-0.1810, -0.0010,  0.0250])
    """
    _check_side(side)
    rest = _rest(fingers, bones)
    turns = to_matrix(fingers.unflatten(-1, (5, 3, 3)), "axis_angle")
    place, turn = rest[:, 0].expand(*fingers.shape[:-1], 5, 3), None
    chain = [place]
    for joint in range(3):
        turn = turns[..., joint, :, :] if turn is None else turn @ turns[..., joint, :, :]
        place = place + (turn @ rest[:, joint + 1, :, None])[..., 0]
        chain.append(place)
    points = torch.stack(chain, dim=-2)[..., _TO_POINTS, :, :].flatten(-3, -2)
    points = torch.cat([torch.zeros_like(points[..., :1, :]), points], dim=-2)
    if side == "left":
        points = points * points.new_tensor([-1.0, 1.0, 1.0])
    moved: Tensor = points @ wrist[..., :3, :3].mT + wrist[..., None, :3, 3]
    return moved


def retarget_points(
    points: Float[Tensor, "*batch 21 3"], *, side: HandSide = "right", bones: Float[Tensor, "5 4 3"] | None = None
) -> tuple[Float[Tensor, "*batch 4 4"], Float[Tensor, "*batch 45"]]:
    """Pose of a hand of which only points are known: the way from any tracker to MANO's numbers.

    The wrist turns so that the five first joints, which hardly move in the palm, come closest to those at rest (least
    squares). Each finger joint then turns by the smallest rotation that puts the next bone in its direction. So all
    directions of bones come back exactly, whatever the lengths. What points cannot show stays at 0: the twist of a
    bone about itself. It is also the error of the method, together with palms of other proportions than `bones`: see
    the page on hands for figures.

    Args:
        points: Points in the world [m], in the order of `HAND_POINTS`. A hand with a NaN gives NaN, and touches no
            other.
        side: Which hand it is.
        bones: Bones of a right hand at rest; only directions and the shape of the palm count. `REST_BONES` where None.

    Returns:
        SE(3) of the wrist in the world, and finger pose [rad], written as that of a right hand.

    Raises:
        ShapeError: If there are not 21 points.
        SettingError: If there is no such side.

    Examples:
        >>> bent = torch.zeros(45)
        >>> bent[5] = 0.5  # index_2 about z: the finger bends in a plane
        >>> wrist, fingers = retarget_points(hand_points(torch.eye(4), bent))
        >>> fingers[3:6].round(decimals=2) + 0.0
        tensor([0.0000, 0.0000, 0.5000])

    Source:
        Least-squares rotation: Kabsch, 1976. The order and axes of the joints are MANO's (Romero et al., 2017).
    """
    _check_side(side)
    if points.shape[-2:] != (21, 3):
        raise ShapeError(f"points must have the shape (..., 21, 3), got {tuple(points.shape)}. See HAND_POINTS.")
    rest = _rest(points, bones)
    known = points.isfinite().all(dim=(-2, -1), keepdim=True)
    seen = torch.where(known, points, 0)
    origin = seen[..., :1, :]
    local = seen - origin
    if side == "left":
        local = local * local.new_tensor([-1.0, 1.0, 1.0])
    chains = local[..., 1:, :].unflatten(-2, (5, 4))[..., _FROM_POINTS, :, :]
    covariance = chains[..., 0, :].mT @ rest[:, 0]
    solvable = torch.where(known, covariance, torch.eye(3).to(points))
    turn: Tensor = roma.special_procrustes(solvable)
    parent, found = turn[..., None, :, :].expand(*chains.shape[:-2], 3, 3), []
    for joint in range(3):
        bone = parent.mT @ (chains[..., joint + 1, :] - chains[..., joint, :])[..., None]
        found.append(_smallest_turn(rest[:, joint + 1], bone[..., 0]))
        parent = parent @ to_matrix(found[-1], "axis_angle")
    fingers = torch.stack(found, dim=-2).flatten(-3)
    wrist = torch.eye(4).to(points).repeat(*turn.shape[:-2], 1, 1)
    wrist[..., :3, :3] = turn
    if side == "left":
        wrist = mirror_pose(wrist)
    wrist[..., :3, 3] = origin[..., 0, :]
    return torch.where(known, wrist, torch.nan), torch.where(known[..., 0], fingers, torch.nan)


_FINGERS: Final = tuple(REST_BONES)
_TO_POINTS: Final = [_FINGERS.index(finger) for finger in ("thumb", "index", "middle", "ring", "pinky")]
_FROM_POINTS: Final = [("thumb", "index", "middle", "ring", "pinky").index(finger) for finger in _FINGERS]


def _rest(like: Tensor, bones: Tensor | None) -> Tensor:
    metres = torch.tensor(list(REST_BONES.values()), dtype=torch.float64) / 1000
    return (metres if bones is None else bones).to(like)


def _smallest_turn(start: Tensor, end: Tensor) -> Tensor:
    """Axis-angle numbers of the smallest rotation that takes one direction to another."""
    start = start.expand_as(end)
    axis = torch.linalg.cross(start, end, dim=-1)
    sine, cosine = axis.norm(dim=-1, keepdim=True), (start * end).sum(-1, keepdim=True)
    tiny = torch.finfo(end.dtype).tiny
    turn: Tensor = axis / sine.clamp(min=tiny) * torch.atan2(sine, cosine)
    return turn


def _check_side(side: str) -> None:
    if side not in HAND_SIDES:
        raise SettingError(f"side must be one of {HAND_SIDES}, got {side!r}. Choose one.")
