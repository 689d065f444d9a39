"""What the first stage writes: the object and the coarse sequence of actions."""

import builtins
from dataclasses import dataclass
from typing import Any, Final

from vla_kit.data.captions._fields import Faults, read_list, read_object, read_texts

__all__ = ["CaptionOutline"]

_MOST_ACTIONS: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionOutline:
    """What an episode is about, as seen in a few frames.

    Args:
        object: What is handled.
        actions: What is done with it, coarsely and in order.

    Examples:
        >>> CaptionOutline.parse({"object": "a pear", "actions": ["grasp it", "put it into the plate"]}).actions
        ('grasp it', 'put it into the plate')

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.5: the first stage goes from the video to a coarse action sequence and
        the object.
    """

    object: str
    actions: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """The outline as JSON values; the inverse of `parse`."""
        return {"object": self.object, "actions": list(self.actions)}

    @classmethod
    def parse(cls, data: builtins.object) -> "CaptionOutline":
        """Read an outline from JSON values.

        Args:
            data: As `plain` gives it.

        Raises:
            DataError: If it is not as described; the text names every fault.
        """
        faults = Faults("outline")
        both = read_object(data, ("object", "actions"), "", faults)
        thing = read_texts({"object": both["object"]}, ("object",), "", faults) if "object" in both else {}
        rows = read_list(both.get("actions"), _MOST_ACTIONS, "actions", faults)
        names = tuple(f"actions[{place}]" for place in range(len(rows)))
        actions = read_texts(dict(zip(names, rows, strict=True)), names, "", faults)
        faults.check()
        return cls(object=thing["object"], actions=tuple(actions.values()))

    @staticmethod
    def schema() -> dict[str, Any]:
        """JSON schema of an outline, for endpoints that write nothing else."""
        actions = {"type": "array", "minItems": 1, "maxItems": _MOST_ACTIONS, "items": {"type": "string"}}
        return {
            "type": "object",
            "properties": {"object": {"type": "string"}, "actions": actions},
            "required": ["object", "actions"],
            "additionalProperties": False,
        }
