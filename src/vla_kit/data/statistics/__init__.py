"""Statistics of recorded data: computed from frames, in parts that merge, and kept."""

from vla_kit.data.statistics.actions import (
    ActionPart,
    action_statistics,
    merged_action_statistics,
    merged_state_statistics,
)
from vla_kit.data.statistics.cache import StatisticsCache
from vla_kit.data.statistics.columns import ColumnSummary, source_statistics, summarize_columns
from vla_kit.data.statistics.feature import EXACT_BYTES, RANK_ERROR, FeatureStatistics
from vla_kit.data.statistics.published import Mismatch, compare_published

__all__ = [
    "EXACT_BYTES",
    "RANK_ERROR",
    "ActionPart",
    "ColumnSummary",
    "FeatureStatistics",
    "Mismatch",
    "StatisticsCache",
    "action_statistics",
    "compare_published",
    "merged_action_statistics",
    "merged_state_statistics",
    "source_statistics",
    "summarize_columns",
]
