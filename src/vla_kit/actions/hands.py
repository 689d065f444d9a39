"""Two human hands as 32 numbers per step, and back to wrists and fingers."""

import torch
from jaxtyping import Float
from torch import Tensor

from vla_kit.actions.eigengrasps import EigengraspBasis
from vla_kit.actions.hand_layout import HAND_SIDES, hand_channels
from vla_kit.actions.rotations import from_matrix, to_matrix
from vla_kit.errors import ShapeError

__all__ = ["decode_hands", "encode_hands"]


def encode_hands(
    wrists: Float[Tensor, "step 2 4 4"],
    fingers: Float[Tensor, "step 2 45"],
    *,
    start: Float[Tensor, "2 4 4"],
    basis: EigengraspBasis,
) -> Float[Tensor, "step 32"]:
    """Actions of two hands over a chunk.

    Every wrist is written in the frame where the chunk starts, `start^-1 wrist`, as 3 translations [m] and 3 axis-angle
    numbers [rad]. `start` says which frame that is: each hand's own wrist at the first frame (preset `human_hands`) or,
    for both, the camera at the first frame (preset `human_hands_camera`).

    Args:
        wrists: SE(3) of the wrists in the world, left then right, at each future step.
        fingers: Finger poses [rad], both written as those of a right hand.
        start: Frame that the wrists are relative to, for left and right.
        basis: Basis of the finger poses, of 10 directions.

    Returns:
        Native actions; what a lost hand holds is for a mask to say.

    Raises:
        ShapeError: If the basis has not 10 directions.

    Examples:
        >>> basis = EigengraspBasis(torch.zeros(45), torch.eye(45)[:10])
        >>> wrists = torch.eye(4).repeat(1, 2, 1, 1)
        >>> wrists[0, 1, 0, 3] = 0.2
        >>> encode_hands(wrists, torch.zeros(1, 2, 45), start=torch.eye(4).repeat(2, 1, 1), basis=basis)[0, 16:19]
        tensor([0.2000, 0.0000, 0.0000])

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.2. The paper does not say whose initial frame is meant.
    """
    _check_basis(basis)
    turn = start[:, :3, :3].double().mT
    place = (turn @ (wrists[..., :3, 3].double() - start[:, :3, 3].double())[..., None])[..., 0]
    rotation = from_matrix(turn @ wrists[..., :3, :3].double(), "axis_angle")
    grasp = basis.encode(fingers.double())
    return torch.cat([place, rotation, grasp], dim=-1).flatten(1).to(wrists.dtype)


def decode_hands(
    actions: Float[Tensor, "step 32"], *, start: Float[Tensor, "2 4 4"], basis: EigengraspBasis
) -> tuple[Float[Tensor, "step 2 4 4"], Float[Tensor, "step 2 45"]]:
    """Inverse of `encode_hands`: exact for the wrists, the nearest pose of the basis for the fingers.

    Args:
        actions: Native actions, such as a policy's.
        start: As in `encode_hands`.
        basis: The basis that the policy was trained with.

    Returns:
        Wrists in the world, and finger poses written as those of a right hand (`mirror_fingers` makes a left one).

    Raises:
        ShapeError: If the basis has not 10 directions, or there are not 32 channels.
    """
    _check_basis(basis)
    if actions.shape[-1] != 32:
        raise ShapeError(f"actions must have 32 channels, 16 per hand, got {tuple(actions.shape)}. Give both hands.")
    hands = torch.stack([actions[:, hand_channels(side)] for side in HAND_SIDES], dim=1).double()
    first = start.double()
    wrists = torch.eye(4, dtype=torch.float64, device=actions.device).repeat(len(actions), 2, 1, 1)
    wrists[..., :3, :3] = first[:, :3, :3] @ to_matrix(hands[..., 3:6], "axis_angle")
    wrists[..., :3, 3] = (first[:, :3, :3] @ hands[..., :3, None])[..., 0] + first[:, :3, 3]
    return wrists.to(actions.dtype), basis.decode(hands[..., 6:]).to(actions.dtype)


def _check_basis(basis: EigengraspBasis) -> None:
    if basis.count != 10:
        raise ShapeError(f"basis must have 10 directions for 32 channels, got {basis.count}. Fit another one.")
