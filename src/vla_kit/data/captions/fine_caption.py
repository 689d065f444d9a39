"""A fine-grained caption: what happened in thirteen dimensions, and numbered steps."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Final

from vla_kit.data.captions._fields import Faults, read_list, read_object, read_texts

__all__ = ["DIMENSIONS", "CaptionDimensions", "CaptionStep", "FineCaption"]

DIMENSIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "action_primitive": "the actions in order, one verb each",
        "actor": "which arm, hand or gripper acts",
        "object": "what is handled, with its colour, material and size",
        "object_distinction": "what tells that object from others that look like it",
        "approach": "from which side the actor comes to the object",
        "contact_region": "where on the object, and with which part, the actor touches it",
        "source_location": "where the object is at first, beside what",
        "target_location": "where the object is in the end, beside what",
        "trajectory": "the path of the object or of the actor, with its directions",
        "orientation": "how the object or the actor is turned, before and after",
        "gripper_before": "how far the gripper or hand is open before the contact",
        "gripper_after": "what the gripper or hand does at the contact and after it",
        "body_motion": "what base, torso and the other arm do meanwhile",
    }
)
"""Dimension -> what it says.

Qwen-VLA (arXiv 2605.30280, section 3.2.5) speaks of thirteen dimensions and prints eight names: action primitive, actor
identity, object recognition and disambiguation, contact region, source and target location, trajectory and orientation,
gripper state, body motion. Its three pairs are split here, which makes eleven. The other two splits are ours: the
contact region into approach and region, and the gripper state into before and after, as FineVLA (arXiv 2605.27284, same
group) lists "contact and approach", and the initial and the final configuration.
"""

_PARTS: Final = {
    "text": "the step in one sentence, as an instruction to the robot",
    "contact": "what touches what, and where",
    "space": "where the object and the actor are, relative to what is around them",
    "motion": "direction, turn and speed of the motion",
}
_MOST_STEPS: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionDimensions:
    """What happened in an episode, one text per dimension; "not visible" where the pictures do not show it.

    Args:
        action_primitive: The actions in order, one verb each.
        actor: Which arm, hand or gripper acts.
        object: What is handled.
        object_distinction: What tells that object from others.
        approach: From which side the actor comes.
        contact_region: Where the actor touches the object.
        source_location: Where the object is at first.
        target_location: Where the object is in the end.
        trajectory: The path of the object or of the actor.
        orientation: How the object or the actor is turned.
        gripper_before: State of the gripper before the contact.
        gripper_after: State of the gripper from the contact on.
        body_motion: What base, torso and the other arm do.

    Examples:
        >>> CaptionDimensions(**dict.fromkeys(DIMENSIONS, "not visible")).actor
        'not visible'
    """

    action_primitive: str
    actor: str
    object: str
    object_distinction: str
    approach: str
    contact_region: str
    source_location: str
    target_location: str
    trajectory: str
    orientation: str
    gripper_before: str
    gripper_after: str
    body_motion: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionStep:
    """One step of an episode.

    Args:
        number: Place of the step, from 1.
        text: The step in one sentence.
        contact: What touches what, and where.
        space: Where things are, relative to each other.
        motion: Direction, turn and speed.

    Examples:
        >>> CaptionStep(number=1, text="Grasp the pear.", contact="thumb and fingers", space="left", motion="down").text
        'Grasp the pear.'
    """

    number: int
    text: str
    contact: str
    space: str
    motion: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FineCaption:
    """A fine-grained caption of one episode.

    Args:
        dimensions: What happened, by dimension.
        steps: What the robot did, step by step; the numbers count from 1.

    Examples:
        >>> step = {"number": 1, "text": "Grasp the pear.", "contact": "palm", "space": "left", "motion": "down"}
        >>> data = {"dimensions": dict.fromkeys(DIMENSIONS, "not visible"), "steps": [step]}
        >>> caption = FineCaption.parse(data)
        >>> caption.instruction, caption.plain() == data
        ('Step 1: Grasp the pear.', True)
        >>> FineCaption.parse({**data, "steps": [{**step, "motion": " "}]})
        Traceback (most recent call last):
        ...
        vla_kit.errors.DataError: caption must be as described, got 1 fault: steps[0].motion must be a text, ...

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.5: numbered steps with contact points, spatial relations and motion, in
        the style "Step n: ...". See `DIMENSIONS` for the dimensions.
    """

    dimensions: CaptionDimensions
    steps: tuple[CaptionStep, ...]

    @property
    def instruction(self) -> str:
        """The steps as one instruction: "Step 1: ... Step 2: ..."."""
        return " ".join(f"Step {step.number}: {step.text}" for step in self.steps)

    def plain(self) -> dict[str, Any]:
        """The caption as JSON values; the inverse of `parse`."""
        return {"dimensions": asdict(self.dimensions), "steps": [asdict(step) for step in self.steps]}

    @classmethod
    def parse(cls, data: object) -> "FineCaption":
        """Read a caption from JSON values.

        Args:
            data: As `plain` gives it.

        Raises:
            DataError: If it is not as described; the text names every fault, for a person or a model to correct.
        """
        faults = Faults("caption")
        both = read_object(data, ("dimensions", "steps"), "", faults)
        dimensions = read_texts(both.get("dimensions"), tuple(DIMENSIONS), "dimensions", faults)
        steps = []
        for place, row in enumerate(read_list(both.get("steps"), _MOST_STEPS, "steps", faults)):
            at = f"steps[{place}]"
            texts = read_texts(row, tuple(_PARTS), at, faults, also=("number",))
            number = row.get("number") if isinstance(row, dict) else None
            if isinstance(row, dict) and (isinstance(number, bool) or number != place + 1):
                faults.add(f"{at}.number must be {place + 1}, got {number!r}")
            steps.append(texts)
        faults.check()
        return cls(
            dimensions=CaptionDimensions(**dimensions),
            steps=tuple(CaptionStep(number=place + 1, **texts) for place, texts in enumerate(steps)),
        )

    @staticmethod
    def schema() -> dict[str, Any]:
        """JSON schema of a caption, for endpoints that write nothing else."""
        step = {"number": {"type": "integer"}} | {name: _text(says) for name, says in _PARTS.items()}
        dimensions = {name: _text(says) for name, says in DIMENSIONS.items()}
        steps = {"type": "array", "minItems": 1, "maxItems": _MOST_STEPS, "items": _object(step)}
        return _object({"dimensions": _object(dimensions), "steps": steps})


def _text(says: str) -> dict[str, str]:
    return {"type": "string", "description": says}


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }
