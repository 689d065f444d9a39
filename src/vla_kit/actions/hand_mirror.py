"""Human hands in a mirror: left becomes right, and what moved to the left moves to the right."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vla_kit.actions.hand_layout import hand_channels
from vla_kit.errors import ShapeError

__all__ = ["mirror_fingers", "mirror_hand_mask", "mirror_hands", "mirror_pose"]


def mirror_hands(actions: Float[Tensor, "*batch 32"]) -> Float[Tensor, "*batch 32"]:
    """Two-hand actions as they look in a mirror that exchanges left and right of the picture.

    The hands change places. A displacement `(x, y, z)` becomes `(-x, y, z)` and a rotation `(x, y, z)` becomes
    `(x, -y, -z)`; eigengrasp weights stay, for the fingers of both hands are written as those of a right one. It holds
    for wrists relative to the camera, whose x axis points right, and for wrists relative to their first pose, because
    the wrist frame of a left hand is the mirror image of that of a right hand (as in MANO). Twice is nothing.

    Args:
        actions: Native actions, 16 channels of the left and 16 of the right hand.

    Raises:
        ShapeError: If there are not 32 channels.

    Examples:
        >>> actions = torch.zeros(32)
        >>> actions[:6] = torch.tensor([1.0, 2.0, 3.0, 0.1, 0.2, 0.3])
        >>> mirror_hands(actions)[16:22]
        tensor([-1.0000,  2.0000,  3.0000,  0.1000, -0.2000, -0.3000])

    Source:
        Qwen-VLA, arXiv 2605.30280, is silent on augmentation; VITRA, arXiv 2510.21571, flips pictures and poses.
    """
    _check(actions)
    return _exchanged(actions) * _signs().to(actions)


def mirror_hand_mask(mask: Bool[Tensor, "*batch 32"]) -> Bool[Tensor, "*batch 32"]:
    """Which numbers of `mirror_hands` are known.

    Args:
        mask: Which numbers of the actions are known.

    Raises:
        ShapeError: If there are not 32 channels.
    """
    _check(mask)
    return _exchanged(mask)


def mirror_fingers(fingers: Float[Tensor, "*batch 45"]) -> Float[Tensor, "*batch 45"]:
    """Finger pose of the other hand that looks the same in a mirror: the way between MANO's left and right hand.

    Args:
        fingers: Axis-angle numbers [rad] of 15 joints.

    Examples:
        >>> mirror_fingers(torch.arange(45.0))[:6]
        tensor([ 0., -1., -2.,  3., -4., -5.])

    Source:
        MANO (Romero et al., 2017): the left hand is the right one mirrored in the plane x = 0.
    """
    return fingers * fingers.new_tensor([1.0, -1.0, -1.0]).repeat(15)


def mirror_pose(pose: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """SE(3) of a wrist or camera in a mirror in the plane x = 0: `M pose M` with `M = diag(-1, 1, 1, 1)`.

    Args:
        pose: Homogeneous matrices.
    """
    signs = pose.new_tensor([-1.0, 1.0, 1.0, 1.0])
    return signs[:, None] * pose * signs


def _signs() -> Tensor:
    return torch.tensor(([-1.0, 1, 1] + [1.0, -1, -1] + [1.0] * 10) * 2)


def _exchanged(numbers: Tensor) -> Tensor:
    return torch.cat([numbers[..., hand_channels("right")], numbers[..., hand_channels("left")]], dim=-1)


def _check(numbers: Tensor) -> None:
    if numbers.ndim == 0 or numbers.shape[-1] != 32:
        raise ShapeError(
            f"actions must have 32 channels, 16 per hand, got {tuple(numbers.shape)}. Give those of human hands."
        )
