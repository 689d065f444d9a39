"""A Gymnasium environment without a simulator: move a dot to the right; `toy_gymnasium:toy/Dot-v0`."""

import gymnasium
import numpy as np


class Dot(gymnasium.Env):
    """The picture shows where the dot is; the sentence stands in `info`."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 (Gymnasium's form)

    def __init__(self, render_mode=None, late=False, discrete=False, channels=2):
        self.render_mode, self.late, self.renders = render_mode, late, 0
        pixels = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)
        first = gymnasium.spaces.Box(0, 255, (3, 8, 8), np.uint8)
        self.observation_space = gymnasium.spaces.Dict(
            {"images.top": pixels, "camera": gymnasium.spaces.Dict({"hand": first})}
        )
        box = gymnasium.spaces.Box(-1, 1, (channels,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(3) if discrete else box

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.steps = float(self.np_random.integers(3)), 0
        return self._observe(), {"task": {"sentence": f"go on from {self.place:.0f}"}}

    def step(self, action):
        assert action.dtype == np.float32
        self.place += float(action[0])
        self.steps += 1
        solved = self.place >= 5
        info = {} if self.late and not solved else {"is_success": np.bool_(solved)}
        return self._observe(), float(self.place), solved, False, info

    def render(self):
        self.renders += 1
        return self._picture()

    def _observe(self):
        picture = self._picture()
        return {"images.top": picture, "camera": {"hand": np.moveaxis(picture, -1, 0)}}

    def _picture(self):
        picture = np.zeros((8, 8, 3), dtype=np.uint8)
        picture[:, min(7, max(0, int(self.place)))] = 200
        return picture


gymnasium.register("toy/Dot-v0", Dot, max_episode_steps=9)
gymnasium.register("toy/Endless-v0", Dot)
