"""Closed-loop evaluation of somebody else's policy in somebody else's simulator, with intervals.

Run: python examples/reuse/closed_loop.py (5 seconds on one CPU core)

Neither is built of our parts: the environment has the methods of `PolicyEnv`, the policy has `act`. Seeds that may have
been trained on are refused, chunks are cut where the policy looks again, and a rate never comes without its interval.
"""

import sys
from collections.abc import Sequence

import numpy as np
import torch

from vla_kit.envs import StepResult
from vla_kit.evaluation import evaluate, evaluation_seeds
from vla_kit.metrics import rate_difference, wilson_interval
from vla_kit.policy import PolicyObservation


class TheirWorld:
    """A dot has to reach the bright pixel of a line within 12 pushes."""

    task, embodiment, view_tags, max_steps, rate_hz = "line/reach", "dot", ("top",), 12, 10.0
    action_low, action_high = np.array([-2.0]), np.array([2.0])
    instruction = "reach the light"

    def reset(self, seed: int) -> str:
        """Begin an episode; equal seeds give equal goals."""
        self.goal, self.place, self.steps = float(np.random.default_rng(seed).integers(32)), 16.0, 0
        return self.instruction

    def look(self) -> dict[str, np.ndarray]:
        """Draw the light in red and the dot in green."""
        picture = np.zeros((1, 32, 3), dtype=np.uint8)
        picture[0, int(self.goal), 0], picture[0, int(self.place), 1] = 255, 255
        return {"top": picture}

    def step(self, action: np.ndarray) -> StepResult:
        """Push the dot."""
        self.place, self.steps = float(np.clip(self.place + np.clip(action[0], -2, 2), 0, 31)), self.steps + 1
        success = abs(self.place - self.goal) < 1
        return StepResult(success=success, done=success or self.steps == self.max_steps)

    def close(self) -> None:
        """Nothing is open."""


class TheirPolicy:
    """Half the way to the light in every chunk of four pushes; `blind` takes the picture away."""

    def __init__(self, *, blind: bool) -> None:
        self.blind = blind

    def act(
        self, observations: Sequence[PolicyObservation], *, generator: Sequence[torch.Generator]
    ) -> list[np.ndarray]:
        """One chunk per observation."""
        pictures = [np.asarray(seen.views["top"]) for seen in observations]
        ways = [0 if self.blind else int(p[0, :, 0].argmax()) - int(p[0, :, 1].argmax()) for p in pictures]
        return [np.full((4, 1), way / 4) for way in ways]


counts = {}
for blind in (False, True):
    results = evaluate(TheirPolicy(blind=blind), TheirWorld, evaluation_seeds(100), replan_every=4)
    counts[blind] = sum(result.success for result in results)
    low, high = wilson_interval(counts[blind], 100)
    sys.stdout.write(
        f"{'blind' if blind else 'seeing'}: {counts[blind]} of 100, 95 % interval {low:.2f} to {high:.2f}\n"
    )
gap = rate_difference(counts[False], 100, counts[True], 100)
sys.stdout.write(f"difference {gap.difference:.2f} ({gap.low:.2f} to {gap.high:.2f})\n")
