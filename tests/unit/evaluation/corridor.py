"""A walk without a simulator, and ways to fail: `PolicyEnv`s for processes that must import them."""

import os
import time
from pathlib import Path

import numpy as np

from vla_kit.envs import NavigationTrace, StepResult


class Corridor:
    """Walk `seed % 5 + 1` steps of 1 to the goal within 8 decisions; the picture shows how far it is."""

    task, embodiment, view_tags, max_steps, rate_hz = "toy/corridor", "walker", ("cam", "wrist"), 8, 10.0
    action_low, action_high = -np.ones(1), np.ones(1)

    def __init__(self):
        self.instruction, self.looks, self.resets, self.closed = "", 0, [], False

    def reset(self, seed):
        self.resets.append(seed)
        self.left, self.taken, self.over, self.instruction = seed % 5 + 1, 0, False, f"walk {seed % 5 + 1}"
        return self.instruction

    def look(self):
        self.looks += 1
        return {tag: np.full((4, 4, 3), int(10 * max(self.left, 0)), dtype=np.uint8) for tag in self.view_tags}

    def step(self, action):
        assert not self.over
        self.left -= float(np.clip(action, -1, 1)[0])
        self.taken += 1
        success = self.left <= 0
        self.over = success or self.taken == self.max_steps
        return StepResult(success=success, done=self.over)

    def close(self):
        self.closed = True


class Breaking(Corridor):
    """Fails at its second step for some seeds: `{seed: (how, how often)}`; what happened stands in a folder."""

    def __init__(self, folder, faults):
        super().__init__()
        self.folder, self.faults = Path(folder), faults

    def reset(self, seed):
        self.seed = seed
        return super().reset(seed)

    def step(self, action):
        how, often = self.faults.get(self.seed, ("", 0))
        before = len(list(self.folder.glob(f"{self.seed}-*")))
        if self.taken == 1 and before < often:
            (self.folder / f"{self.seed}-{before}").touch()
            if how == "raise":
                raise RuntimeError("the physics blew up")
            if how == "die":
                os._exit(9)
            time.sleep(3600)
        return super().step(action)


class Forgetful(Corridor):
    """Draws more than from the seed: every episode but the first is two steps longer."""

    def reset(self, seed):
        said = super().reset(seed)
        self.left += 2 * (len(self.resets) > 1)
        return said


class Walker:
    """Walks on, unless told not to; remembers what it was asked."""

    def __init__(self):
        self.batches, self.generators = [], []

    def act(self, observations, *, generator):
        self.batches.append(len(observations))
        self.last = observations
        self.generators += [one.initial_seed() for one in generator]
        return [np.full((4, 1), 0.0 if seen.instruction == "stand" else 1.0) for seen in observations]


class Sprinter:
    """The demonstrator."""

    def __init__(self, env):
        self.ready = False

    def reset(self):
        self.ready = True

    def act(self):
        assert self.ready
        return np.ones(1)


class Hall(Corridor):
    """A corridor that tells where the walker went; it stops where it solves its task."""

    def reset(self, seed):
        said = super().reset(seed)
        self.start, self.places = self.left, [0.0]
        return said

    def step(self, action):
        result = super().step(action)
        self.places.append(self.start - self.left)
        return result

    def navigation_trace(self):
        path = np.stack([self.places, np.zeros(len(self.places))], axis=1)
        return NavigationTrace(
            path=path,
            goal_distances=np.abs(self.start - path[:, 0]),
            shortest_m=float(self.start),
            stopped=self.left <= 0,
            success_m=0.5,
            reference=np.array([[0.0, 0.0], [float(self.start), 0.0]]),
        )
