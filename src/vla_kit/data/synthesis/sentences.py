"""Instructions from vocabularies: verbs, objects, prepositions, places and directions."""

from collections.abc import Iterator, Mapping
from itertools import product
from string import Formatter
from typing import Final, get_args

from numpy.random import Generator

from vla_kit.data.synthesis.template_names import TemplateName
from vla_kit.errors import SettingError

__all__ = ["DIRECTIONS", "PLACES", "RELATIONS", "VIEWPOINTS", "compose", "draw_objects", "sentences"]

_COLOURS: Final = (
    "red", "green", "blue", "yellow", "orange", "purple", "white", "black", "grey", "brown", "pink", "striped",
)  # fmt: skip
_NOUNS: Final = (
    "mug", "cup", "bowl", "can", "bottle", "jar", "box", "block", "cube", "cylinder", "sponge", "tin", "carton",
    "apple", "orange", "lemon", "pear", "tomato", "onion", "banana", "spoon", "brush", "marker", "stapler",
    "tape roll", "screwdriver", "wrench", "battery", "toy car", "toy duck", "candle", "soap bar", "tea box",
    "pill bottle", "salt shaker", "notebook",
)  # fmt: skip
_OBJECTS: Final = tuple(f"{colour} {noun}" for colour in _COLOURS for noun in _NOUNS)

DIRECTIONS: Final[Mapping[str, tuple[float, float]]] = {
    "to the left": (0.0, 1.0),
    "to the right": (0.0, -1.0),
    "away from the robot": (1.0, 0.0),
    "toward the robot": (-1.0, 0.0),
    "diagonally to the far left": (1.0, 1.0),
    "diagonally to the far right": (1.0, -1.0),
    "diagonally to the near left": (-1.0, 1.0),
    "diagonally to the near right": (-1.0, -1.0),
}
"""Words -> direction on the table, seen from the robot (x away from it, y to its left)."""

RELATIONS: Final[Mapping[str, tuple[float, float]]] = {
    "to the left of": (0.0, 1.0),
    "to the right of": (0.0, -1.0),
    "behind": (1.0, 0.0),
    "in front of": (-1.0, 0.0),
}
"""Preposition -> direction from the reference object, seen from the robot."""

PLACES: Final[Mapping[str, tuple[float, float]]] = {
    "the left side of the table": (0.5, 0.9),
    "the right side of the table": (0.5, -0.9),
    "the middle of the table": (0.5, 0.0),
    "the far side of the table": (1.0, 0.0),
    "the near side of the table": (0.0, 0.0),
    "the far left corner": (1.0, 0.7),
    "the far right corner": (1.0, -0.7),
    "the near left corner": (0.0, 0.9),
    "the near right corner": (0.0, -0.9),
}
"""Place -> share of the way from the nearest to the farthest radius, and of the widest angle to the left."""

VIEWPOINTS: Final[Mapping[str, tuple[float, float]]] = {
    "the robot": (0.0, 0.0),
    "the front camera": (3.0, 0.0),
    "the left camera": (0.5, 3.0),
    "the right camera": (0.5, -3.0),
    "the far left camera": (3.0, 3.0),
    "the far right camera": (3.0, -3.0),
    "the operator at the left": (0.0, 3.0),
    "the operator at the right": (0.0, -3.0),
}
"""Viewpoint -> where it is [m], in the base's frame."""

_ENDS: Final = ("", " please", " carefully", " slowly", " in one motion")
_FREE: Final[Mapping[str, tuple[str, ...]]] = {
    "end": _ENDS,
    "object": _OBJECTS,
    "other": _OBJECTS,
    "distance": tuple(f"{centimetres} cm" for centimetres in range(6, 21)),
    "angle": tuple(f"{degrees} degrees" for degrees in range(30, 95, 5)),
    "turn": ("clockwise", "counterclockwise"),
    "direction": tuple(DIRECTIONS),
    "relation": tuple(RELATIONS),
    "place": tuple(PLACES),
    "viewpoint": tuple(VIEWPOINTS),
}

_PATTERNS: Final[Mapping[TemplateName, tuple[tuple[str, Mapping[str, tuple[str, ...]]], ...]]] = {
    "pick_and_place": (
        (
            "{verb} the {object} and {put} it {relation} the {other}{end}",
            {"verb": ("pick up", "grasp", "take", "grab", "lift"), "put": ("place", "put", "set", "lay")},
        ),
    ),
    "push": (("{verb} the {object} {distance} {direction}{end}", {"verb": ("push", "shove", "nudge")}),),
    "pull": (("{verb} the {object} {distance} {direction}{end}", {"verb": ("pull", "drag", "draw", "tug")}),),
    "rotate_and_reposition": (
        (
            "{verb} the {object} {angle} {turn} and {put} it {preposition} {place}{end}",
            {
                "verb": ("rotate", "turn", "twist"),
                "put": ("move", "bring", "carry", "transfer"),
                "preposition": ("to", "over to"),
            },
        ),
    ),
    "rotate_toward_viewpoint": (
        (
            "{verb} the {object} {preposition} {viewpoint}{end}",
            {
                "verb": ("rotate", "turn", "twist", "reorient"),
                "preposition": ("toward", "to face", "until it faces", "so that it points at"),
            },
        ),
    ),
    "swap": (
        (
            "{verb} the {object} {preposition} the {other}{end}",
            {"verb": ("swap", "exchange", "switch", "interchange"), "preposition": ("with", "and")},
        ),
    ),
}


def compose(template: TemplateName, rng: Generator, **fixed: str) -> str:
    """A sentence of a template: what the motion determines is given, the other words are drawn.

    Args:
        template: Name of the template.
        rng: Draws the words.
        fixed: Slot -> words, such as `object="red mug"`.

    Raises:
        SettingError: If a word is not in the template's vocabulary.

    Examples:
        >>> import numpy as np
        >>> compose("swap", np.random.default_rng(0), object="red mug", other="blue box")
        'interchange the red mug and the blue box carefully'
    """
    pattern, own = _PATTERNS[template][int(rng.integers(len(_PATTERNS[template])))]
    words: dict[str, str] = {}
    for slot in _slots(pattern):
        choices = own.get(slot) or _FREE[slot]
        words[slot] = fixed[slot] if slot in fixed else choices[int(rng.integers(len(choices)))]
        if words[slot] not in choices:
            raise SettingError(f"{slot} must be among {list(choices)[:8]}..., got {words[slot]!r}. Use its words.")
    return pattern.format(**words)


def sentences(template: TemplateName) -> Iterator[str]:
    """Every sentence that a template can say, each of them once.

    Examples:
        >>> next(sentences("push"))
        'push the red mug 6 cm to the left'
    """
    if template not in get_args(TemplateName):
        raise SettingError(f"template must be among {list(get_args(TemplateName))}, got {template!r}. Choose one.")
    for pattern, own in _PATTERNS[template]:
        slots = _slots(pattern)
        for words in product(*(own.get(slot) or _FREE[slot] for slot in slots)):
            said = dict(zip(slots, words, strict=True))
            if said.get("object") != said.get("other", ""):
                yield pattern.format(**said)


def draw_objects(rng: Generator) -> tuple[str, str]:
    """Two different objects."""
    first, second = rng.choice(len(_OBJECTS), size=2, replace=False)
    return _OBJECTS[int(first)], _OBJECTS[int(second)]


def _slots(pattern: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(pattern) if name]
