"""Cleaning: rules that measure episodes, decisions that readers honour, and a report. The verb is in `clean.py`."""

from vla_kit.data.cleaning.column_roles import ColumnRoles, find_roles
from vla_kit.data.cleaning.decisions import Decision, Decisions
from vla_kit.data.cleaning.examined_episode import ExaminedEpisode
from vla_kit.data.cleaning.findings import Findings, RuleFindings, find_faults
from vla_kit.data.cleaning.presets import THRESHOLDS, PublishedThresholds, default_rules
from vla_kit.data.cleaning.report import write_cleaning_report
from vla_kit.data.cleaning.rule import CleaningRule, Judgement, Limit, Measurement
from vla_kit.data.cleaning.rule_settings import rule_settings
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
    "THRESHOLDS",
    "BlankFrames",
    "CleaningRule",
    "ColumnRoles",
    "ContradictedCount",
    "ContradictedGripper",
    "ContradictedLanguage",
    "Decision",
    "Decisions",
    "DirectionAgreement",
    "ExaminedEpisode",
    "Findings",
    "Judgement",
    "Limit",
    "Measurement",
    "MinimumFrames",
    "MissingLanguage",
    "PublishedThresholds",
    "RuleFindings",
    "StateActionDistance",
    "StaticActions",
    "SuddenJumps",
    "UnreadableColumns",
    "UnreadableFrames",
    "UnusualLength",
    "default_rules",
    "find_faults",
    "find_roles",
    "rule_settings",
    "write_cleaning_report",
]
