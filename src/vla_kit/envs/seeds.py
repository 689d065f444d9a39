"""Where the seeds of evaluations begin: demonstrations are recorded below."""

from typing import Final

__all__ = ["EVALUATION_SEEDS_FROM"]

EVALUATION_SEEDS_FROM: Final = 1_000_000
"""First seed of evaluation episodes; demonstrations stay below."""
