"""A robot on a line that must reach 1: a `PolicyEnv` without a simulator, for processes that must import it."""

import os

import numpy as np

from vla_kit.envs import SimulationError, StepResult


class LineEnv:
    """Adds the first channel of each action to its position."""

    task = "fake/line"
    embodiment = "line"
    view_tags = ("cam_high",)
    max_steps = 6
    rate_hz = 10.0
    action_low = np.full(2, -1.0)
    action_high = np.full(2, 1.0)

    def __init__(self, *, fail_at=None, die_at=None):
        self.fail_at, self.die_at = fail_at, die_at
        self.executed, self.looks, self.closed = [], 0, False
        self.instruction = ""

    def reset(self, seed):
        if seed == self.fail_at:
            raise SimulationError(f"seed {seed} must fail")
        if seed == self.die_at:
            os._exit(3)
        self.position, self.steps, self.seed, self.executed = 0.0, 0, seed, []
        self.instruction = f"go to one, number {seed}"
        return self.instruction

    def look(self):
        self.looks += 1
        frame = np.zeros((2, 3, 3), dtype=np.uint8)
        frame[0] = int(100 * abs(self.position)) % 256
        frame[1] = self.steps
        return {"cam_high": frame}

    def step(self, action):
        self.executed.append(np.array(action))
        self.position += float(action[0])
        self.steps += 1
        success = self.position >= 1.0
        return StepResult(success=success, done=success or self.steps == self.max_steps)

    def close(self):
        self.closed = True


class LineExpert:
    """Goes on by a quarter."""

    def __init__(self, env):
        self.env, self.resets = env, 0

    def reset(self):
        self.resets += 1

    def act(self):
        return np.array([0.25, self.env.seed])
