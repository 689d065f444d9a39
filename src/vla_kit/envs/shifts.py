"""Named changes of a task that no demonstration holds: what a policy must not mind.

Light on purpose: an evaluation can list them without a simulator.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from vla_kit.envs.tasks import find_task
from vla_kit.errors import SettingError

__all__ = ["SHIFTS", "Shift", "find_shift"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """One change, drawn anew from the seed of each episode.

    Args:
        name: Key of `SHIFTS`.
        what: What it changes.
        simulators: Simulators that can make it; none for a change of words, which needs none.
    """

    name: str
    what: str
    simulators: tuple[str, ...] = ()

    @property
    def of_words(self) -> bool:
        """Whether it changes what is said, and nothing that is seen."""
        return not self.simulators


_METAWORLD: Final = ("metaworld",)

_ALL: Final = (
    Shift(
        name="camera",
        what="The camera turns by 8 to 15 degrees around the table, rises or sinks by 4 to 8 degrees, and comes nearer "
        "or goes away by 5 to 10 %.",
        simulators=_METAWORLD,
    ),
    Shift(
        name="light",
        what="All lights together are dimmed to 35 to 60 % or raised to 140 to 180 %, tinted, and turned by 45 to 180 "
        "degrees around the vertical.",
        simulators=_METAWORLD,
    ),
    Shift(
        name="texture",
        what="Table, floor and wall get stripes of two drawn colours; objects keep theirs, for instructions name them.",
        simulators=_METAWORLD,
    ),
    Shift(
        name="distractors",
        what="Four coloured boxes, balls and cylinders lie on the table, clear of the task. They are drawn and not "
        "simulated: the hand would pass through them.",
        simulators=_METAWORLD,
    ),
    Shift(
        name="pose",
        what="The hand starts 8 to 14 cm to the left or right of its place, up to 5 cm further from the robot and up "
        "to 8 cm higher.",
        simulators=_METAWORLD,
    ),
    Shift(name="instruction", what="The task is said in a sentence that no demonstration uses."),
)

SHIFTS: Final[Mapping[str, Shift]] = MappingProxyType({shift.name: shift for shift in _ALL})
"""Name -> change. The list follows table 6 of Qwen-VLA (arXiv 2605.30280): colour, instance, position, background,
instruction; the paper does not publish its changes."""


def find_shift(name: str, *, task: str) -> Shift:
    """Look up a change that a task can be put under.

    Args:
        name: Key of `SHIFTS`.
        task: Key of `TASKS`.

    Returns:
        The change.

    Raises:
        SettingError: If there is no such change or task, or the task cannot be put under it.

    Examples:
        >>> find_shift("instruction", task="aloha/transfer-cube").of_words
        True
    """
    known, simulator = find_task(task), task.partition("/")[0]
    possible = [
        shift.name
        for shift in SHIFTS.values()
        if (bool(known.held_out) if shift.of_words else simulator in shift.simulators)
    ]
    if name not in possible:
        raise SettingError(f"shift must be one of {possible} for {task}, got {name!r}. Leave the others out.")
    return SHIFTS[name]
