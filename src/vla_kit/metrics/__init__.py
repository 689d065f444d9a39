"""Metrics: intervals of success rates and measures of navigation here; torchmetrics classes are named in full."""

from vla_kit.metrics.intervals import RateDifference, rate_difference, wilson_interval
from vla_kit.metrics.navigation import NavigationEpisode, dynamic_time_warping, mean_scores, ndtw, path_length

__all__ = [
    "NavigationEpisode",
    "RateDifference",
    "dynamic_time_warping",
    "mean_scores",
    "ndtw",
    "path_length",
    "rate_difference",
    "wilson_interval",
]
