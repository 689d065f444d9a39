"""Rules of cleaning, one class per reason to drop an episode."""

from vla_kit.data.cleaning.rules.blank_frames import BlankFrames
from vla_kit.data.cleaning.rules.contradicted_count import ContradictedCount
from vla_kit.data.cleaning.rules.contradicted_gripper import ContradictedGripper
from vla_kit.data.cleaning.rules.contradicted_language import ContradictedLanguage
from vla_kit.data.cleaning.rules.direction_agreement import DirectionAgreement
from vla_kit.data.cleaning.rules.minimum_frames import MinimumFrames
from vla_kit.data.cleaning.rules.missing_language import MissingLanguage
from vla_kit.data.cleaning.rules.state_action_distance import StateActionDistance
from vla_kit.data.cleaning.rules.static_actions import StaticActions
from vla_kit.data.cleaning.rules.sudden_jumps import SuddenJumps
from vla_kit.data.cleaning.rules.unreadable_columns import UnreadableColumns
from vla_kit.data.cleaning.rules.unreadable_frames import UnreadableFrames
from vla_kit.data.cleaning.rules.unusual_length import UnusualLength

__all__ = [
    "BlankFrames",
    "ContradictedCount",
    "ContradictedGripper",
    "ContradictedLanguage",
    "DirectionAgreement",
    "MinimumFrames",
    "MissingLanguage",
    "StateActionDistance",
    "StaticActions",
    "SuddenJumps",
    "UnreadableColumns",
    "UnreadableFrames",
    "UnusualLength",
]
