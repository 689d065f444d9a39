"""The pieces of a human's action, for a reader: two wrists in a frame that is named, and two hands of eigengrasps."""

from typing import Literal

from vla_kit.actions import HAND_SIDES
from vla_kit.data.action_columns import ActionColumns
from vla_kit.errors import SettingError

__all__ = ["hand_columns"]


def hand_columns(relative_to: Literal["wrist", "camera"] = "wrist") -> list[ActionColumns]:
    """Actions of both hands out of the columns of a `HandSource`, 32 channels.

    Per hand, left first: the wrist at each future step in the frame where the chunk starts, and the eigengrasp weights
    at that step. The action of a frame is the pose one frame later.

    - `wrist`: relative to the hand's own wrist at the first frame (preset `human_hands`). Nothing but the hand has to
      be known, but a hand that is out of sight at the first frame has no action in that chunk.
    - `camera`: relative to the camera at the first frame (preset `human_hands_camera`), so that a hand which comes into
      the picture later has one. The camera's poses have to be known.

    Args:
        relative_to: The frame.

    Raises:
        SettingError: If it is neither.

    Examples:
        >>> [piece.column for piece in hand_columns()]
        ['left.wrist', 'left.grasp', 'right.wrist', 'right.grasp']
        >>> hand_columns("camera")[0].reference
        'camera'

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.2: "relative to the initial frame"; whose, the paper does not say.
        VITRA, arXiv 2510.21571, takes the camera.
    """
    if relative_to not in ("wrist", "camera"):
        raise SettingError(f"relative_to must be 'wrist' or 'camera', got {relative_to!r}. Choose one.")
    pieces = []
    for side in HAND_SIDES:
        wrist = ActionColumns(
            f"{side}.wrist",
            pseudo=True,
            representation="delta_chunk",
            reference="camera" if relative_to == "camera" else None,
            rotation="matrix",
            output="axis_angle",
            frame="body",
            seen=f"{side}.seen",
        )
        grasp = ActionColumns(f"{side}.grasp", pseudo=True, seen=f"{side}.seen")
        pieces += [wrist, grasp]
    return pieces
