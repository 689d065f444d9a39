"""Names of the six kinds of task."""

from typing import Final, Literal, get_args

__all__ = ["TEMPLATES", "TemplateName"]

TemplateName = Literal["pick_and_place", "push", "pull", "rotate_and_reposition", "rotate_toward_viewpoint", "swap"]
"""Kind of task.

Source:
    Qwen-VLA, arXiv 2605.30280, section 3.2.3: pick and place, linear push, linear pull, rotate and reposition, rotate
    toward a viewpoint, swap two objects.
"""

TEMPLATES: Final[tuple[TemplateName, ...]] = get_args(TemplateName)
"""All kinds of task."""
