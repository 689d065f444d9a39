"""The baseline that every success rate is compared with: uniform random actions."""

import numpy as np
from jaxtyping import Float

from vla_kit.errors import SettingError

__all__ = ["random_actions"]


def random_actions(
    low: Float[np.ndarray, " size"],
    high: Float[np.ndarray, " size"],
    *,
    rng: np.random.Generator,
    steps: int = 1,
) -> Float[np.ndarray, "step size"]:
    """Draw actions uniformly between two limits.

    Args:
        low: Lowest action, `PolicyEnv.action_low`.
        high: Highest action, `PolicyEnv.action_high`.
        rng: Source of randomness.
        steps: Actions to draw, such as a chunk.

    Returns:
        Actions in [`low`, `high`), float64.

    Raises:
        SettingError: If the limits do not fit each other or are crossed.

    Examples:
        >>> random_actions(np.zeros(4), np.ones(4), rng=np.random.default_rng(0), steps=2).shape
        (2, 4)
    """
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    if low.shape != high.shape or low.ndim != 1 or not (low <= high).all():
        raise SettingError(
            f"low must be one axis and nowhere above high, got {low.tolist()} and {high.tolist()}. "
            "Take both from the environment."
        )
    return rng.uniform(low, high, size=(steps, low.size))
