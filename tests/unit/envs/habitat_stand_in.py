"""As much of Habitat as the adapter touches: one flat scene, the actions of VLN-CE, a wall at x = 3."""

import math
from types import ModuleType, SimpleNamespace

import numpy as np

WALL = 3.0
MADE = []


def episode(number, *, goal=(0.0, 0.0, -2.0), yaw=0.0, words="walk\n ahead"):
    return SimpleNamespace(
        episode_id=str(number),
        goals=[SimpleNamespace(position=list(goal))],
        reference_path=[[0.0, 0.0, 0.0], list(goal)],
        instruction=SimpleNamespace(instruction_text=words),
        yaw=yaw,
    )


class Sim:
    """A robot on a floor; y points up and it looks along -z."""

    def __init__(self):
        self.place, self.yaw = np.zeros(3), 0.0

    def get_agent_state(self):
        half = self.yaw / 2
        rotation = SimpleNamespace(w=math.cos(half), x=0.0, y=math.sin(half), z=0.0)
        return SimpleNamespace(position=self.place.copy(), rotation=rotation)

    def geodesic_distance(self, first, second):
        assert isinstance(first, list)
        return math.inf if second[0] > 100 else float(np.linalg.norm(np.subtract(first, second)))


class Env:
    """habitat.Env, whose episodes come from an iterator that may be set."""

    def __init__(self, config):
        self.config, self.episodes, self.sim = config, list(config["episodes"]), Sim()
        self.episode_iterator = iter(self.episodes)
        self.limit, self.closed = config.get("limit", 500), False
        MADE.append(self)

    def reset(self):
        self.current_episode = next(self.episode_iterator)
        self.sim.place, self.sim.yaw = np.zeros(3), self.current_episode.yaw
        self.taken, self.stopped = [], False
        return self._seen()

    @property
    def episode_over(self):
        return self.stopped or len(self.taken) >= self.limit

    def step(self, action):
        assert type(action) is int
        assert not self.episode_over
        self.taken.append(action)
        if action == 0:
            self.stopped = True
        elif action == 1:
            ahead = self.sim.place + 0.25 * np.array([-math.sin(self.sim.yaw), 0.0, -math.cos(self.sim.yaw)])
            self.sim.place = ahead if ahead[0] < WALL else self.sim.place
        else:
            self.sim.yaw += math.radians(15) * (1 if action == 2 else -1)
        return self._seen()

    def close(self):
        self.closed = True

    def _seen(self):
        picture = np.arange(8 * 8 * 4, dtype=np.uint8).reshape(8, 8, 4)
        return {"rgb": picture, "depth": picture[..., :1]}


def stand_in(configurations):
    """A module that can be imported as `habitat`."""
    module = ModuleType("habitat")
    module.Env, module.get_config = Env, configurations.__getitem__
    return module
