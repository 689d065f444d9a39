"""Noise on executed actions: a recorder shakes the robot, so that demonstrations cover the way back."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vla_kit.errors import SettingError

__all__ = ["Disturbance"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disturbance:
    """How far the executed action may stray from the expert's, which is what gets recorded.

    An episode draws one standard deviation for all its decisions; where that is 0, the episode is clean. Kicks come
    on top: a constant push over one to `kick_steps` decisions.

    Args:
        sigmas: Standard deviations to choose from, one per episode, in native units.
        channels: True where a channel may be disturbed. Grippers usually may not: a dropped object teaches nothing.
        kick_chance: Chance per decision that a new kick begins, in [0, 1].
        kick_sigma: Standard deviation of a kick, in native units.
        kick_steps: Longest kick [decisions].

    Raises:
        SettingError: If a number breaks its rule.

    Examples:
        >>> disturbance = Disturbance(sigmas=(0.5,), channels=(True, False))
        >>> disturbance.draw(2, rng=np.random.default_rng(0)).round(2).tolist()
        [[0.06, 0.0], [0.32, 0.0]]

    Source:
        Ours. Recording the clean action under disturbed execution follows DART (Laskey et al. 2017,
        arXiv 1703.09327).
    """

    sigmas: tuple[float, ...]
    channels: tuple[bool, ...]
    kick_chance: float = 0.0
    kick_sigma: float = 0.0
    kick_steps: int = 3

    def __post_init__(self) -> None:
        if not self.sigmas or not all(0 <= sigma < math.inf for sigma in self.sigmas):
            raise SettingError(
                f"sigmas must be one or more finite numbers >= 0, got {self.sigmas}. Use (0.0,) for clean data."
            )
        if not self.channels:
            raise SettingError("channels must have one entry per action channel, got (). Use False for grippers.")
        if not 0 <= self.kick_chance <= 1:
            raise SettingError(f"kick_chance must lie in [0, 1], got {self.kick_chance}. It is a chance per decision.")
        if not 0 <= self.kick_sigma < math.inf:
            raise SettingError(f"kick_sigma must be >= 0 and finite, got {self.kick_sigma}. Use 0 for no kicks.")
        if self.kick_steps < 1:
            raise SettingError(f"kick_steps must be >= 1, got {self.kick_steps}. Set kick_chance to 0 for no kicks.")

    def draw(self, steps: int, *, rng: np.random.Generator) -> Float[np.ndarray, "step size"]:
        """Draw the offsets of one episode, to be added to the executed actions.

        Args:
            steps: Decisions of the longest episode.
            rng: Source of randomness.

        Returns:
            Offsets in native units; 0 in channels that may not be disturbed.
        """
        mask = np.asarray(self.channels, dtype=np.bool_)
        sigma = float(rng.choice(self.sigmas))
        offsets = rng.normal(size=(steps, mask.size)) * sigma
        kick = np.zeros(mask.size)
        left = 0
        for step in range(steps):
            if rng.random() < self.kick_chance:
                kick = rng.normal(size=mask.size) * self.kick_sigma
                left = int(rng.integers(1, self.kick_steps + 1))
            if left > 0 and sigma > 0:
                offsets[step] += kick
            left -= 1
        return np.where(mask, offsets, 0.0)
