"""Metrics: intervals of success rates here; torchmetrics classes are named in full."""

from vla_kit.metrics.intervals import RateDifference, rate_difference, wilson_interval

__all__ = ["RateDifference", "rate_difference", "wilson_interval"]
