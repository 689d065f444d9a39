"""The rules of a run without a file of rules, with what was published for ten data sets."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from vla_kit.data.cleaning.rule import CleaningRule
from vla_kit.data.cleaning.rules import (
    BlankFrames,
    ContradictedCount,
    ContradictedGripper,
    ContradictedLanguage,
    DirectionAgreement,
    MinimumFrames,
    MissingLanguage,
    StateActionDistance,
    StaticActions,
    SuddenJumps,
    UnreadableColumns,
    UnreadableFrames,
    UnusualLength,
)
from vla_kit.errors import SettingError

__all__ = ["THRESHOLDS", "PublishedThresholds", "default_rules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedThresholds:
    """What is published for one data set.

    Args:
        minimum_frames: Fewest frames of an episode.
        state_action_distance: Largest distance of state and action [ranges of the channels].

    Examples:
        >>> THRESHOLDS["droid"].minimum_frames
        40
    """

    minimum_frames: int
    state_action_distance: float


THRESHOLDS: Final[Mapping[str, PublishedThresholds]] = MappingProxyType(
    {
        "bc_z": PublishedThresholds(minimum_frames=41, state_action_distance=1.0),
        "bridge": PublishedThresholds(minimum_frames=10, state_action_distance=0.5),
        "galaxea": PublishedThresholds(minimum_frames=50, state_action_distance=0.5),
        "rt_1": PublishedThresholds(minimum_frames=12, state_action_distance=0.5),
        "rdt": PublishedThresholds(minimum_frames=30, state_action_distance=0.3),
        "droid": PublishedThresholds(minimum_frames=40, state_action_distance=0.5),
        "rh20t": PublishedThresholds(minimum_frames=20, state_action_distance=0.2),
        "robocoin": PublishedThresholds(minimum_frames=60, state_action_distance=0.2),
        "robomind_v1": PublishedThresholds(minimum_frames=30, state_action_distance=1.0),
        "robomind_v2": PublishedThresholds(minimum_frames=30, state_action_distance=0.5),
    }
)
"""Thresholds of the released filter of FineVLA (arXiv 2605.27284, same group as Qwen-VLA), by data set.

They hold at the rate at which FineVLA keeps the set, and for the distance on end-effector poses or joints without
grippers.
"""


def default_rules(preset: str | None = None) -> list[CleaningRule]:
    """The thirteen kinds of rules with their defaults, or with what is published for a data set.

    Args:
        preset: A key of `THRESHOLDS`; none of them where None.

    Returns:
        The rules, in the order of the report.

    Raises:
        SettingError: If there is no such preset.

    Examples:
        >>> [rule.limit.threshold for rule in default_rules("bc_z") if rule.name == "minimum_frames"]
        [41]

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.1, names the rules and gives no threshold; see each rule for its own.
    """
    if preset is not None and preset not in THRESHOLDS:
        raise SettingError(f"preset must be one of {sorted(THRESHOLDS)}, got {preset!r}. Or leave it out.")
    published = None if preset is None else THRESHOLDS[preset]
    return [
        UnreadableFrames(),
        UnreadableColumns(),
        BlankFrames(),
        MinimumFrames() if published is None else MinimumFrames(threshold=published.minimum_frames),
        UnusualLength(),
        StaticActions(),
        SuddenJumps(of="state"),
        SuddenJumps(of="action"),
        StateActionDistance() if published is None else StateActionDistance(threshold=published.state_action_distance),
        DirectionAgreement(),
        MissingLanguage(),
        ContradictedLanguage(),
        ContradictedGripper(),
        ContradictedCount(),
    ]
