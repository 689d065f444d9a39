"""How two human hands fill 32 channels: sides, wrist, eigengrasp weights, and the joints of a finger pose."""

from typing import Final, Literal

from vla_kit.errors import SettingError

__all__ = ["FINGER_JOINTS", "HAND_SIDES", "NUM_GRASPS", "HandSide", "hand_channels"]

HandSide = Literal["left", "right"]
"""A hand."""

HAND_SIDES: Final[tuple[HandSide, HandSide]] = ("left", "right")
"""Hands in the order of the channels: left, then right. The paper does not say which comes first."""

FINGER_JOINTS: Final = tuple(
    f"{finger}_{joint}" for finger in ("index", "middle", "pinky", "ring", "thumb") for joint in (1, 2, 3)
)
"""Joints of a finger pose in the order of MANO, from the palm to the tip; three axis-angle numbers [rad] each, 45."""

NUM_GRASPS: Final = 10
"""Eigengrasp weights per hand."""

_WRIST: Final = 6
_PARTS: Final = {"position": (0, 3), "rotation": (3, 6), "grasp": (6, 16), "all": (0, 16)}


def hand_channels(side: HandSide, part: Literal["position", "rotation", "grasp", "all"] = "all") -> slice:
    """Where a part of a hand lies among the 32 channels.

    Args:
        side: Left or right.
        part: `position` (3 translations [m]) and `rotation` (3 axis-angle numbers [rad]) of the wrist, `grasp` (10
            eigengrasp weights), or `all` 16.

    Raises:
        SettingError: If there is no such side or part.

    Examples:
        >>> hand_channels("left"), hand_channels("right", "rotation")
        (slice(0, 16, None), slice(19, 22, None))

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.2: SE(3) of the wrist and 10 PCA weights for each hand, 32 in all. The
        order is not published; ours is that of the preset `human_hands`.
    """
    if side not in HAND_SIDES:
        raise SettingError(f"side must be one of {HAND_SIDES}, got {side!r}. Choose one.")
    if part not in _PARTS:
        raise SettingError(f"part must be one of {tuple(_PARTS)}, got {part!r}. Choose one.")
    start = HAND_SIDES.index(side) * (_WRIST + NUM_GRASPS)
    first, last = _PARTS[part]
    return slice(start + first, start + last)
