"""Any Gymnasium environment with pictures as a `PolicyEnv`, and any `PolicyEnv` as a Gymnasium environment.

Needs `pip install 'vla-kit[gymnasium]'` and whatever brings the environment.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8

import vla_kit.envs._before_drawing  # noqa: F401 (triton before Mesa)
from vla_kit.envs.protocol import (
    Action,
    Pictures,
    PolicyEnv,
    SimulationError,
    State,
    StepResult,
    check_action,
    check_frame,
    check_seed,
)
from vla_kit.errors import DtypeError, MissingExtraError, SettingError, ShapeError

try:
    import gymnasium
except ModuleNotFoundError as error:
    raise MissingExtraError("gymnasium", extra="gymnasium") from error

__all__ = ["AsGymnasium", "GymnasiumEnv"]

_INSTRUCTION_STREAM: Final = 7001
_RENDER: Final = "render"


class GymnasiumEnv:
    """A Gymnasium environment, told where its pictures, its success and its instruction lie.

    A place is a path of keys that begins with `observation`, `info`, `reward` or `terminated`, such as
    `observation.pixels.top` or `info.is_success`. The view `render` is `env.render()`, called only where the policy
    looks; pictures inside an observation are made by the environment at every step, whether looked at or not. An
    episode is over at its first success.

    Args:
        id: Name that `gymnasium.make` takes; `module:Name-v0` imports a module first.
        embodiment: Name of the robot, as the policy knows it.
        views: View tag -> place of its picture.
        rate_hz: Decisions per simulated second [Hz].
        success: Place of what tells success. Where an environment writes it into `info` at the last step alone, it is
            not there before, and that counts as not yet.
        success_from: Least value that is a success; a boolean counts as 0 or 1.
        sentences: Ways to say the task, one of which is drawn from the seed.
        instruction: Place of the sentence, where the environment has one, in place of `sentences`.
        state: Place of what the robot measures of itself, for policies that read states.
        max_steps: Decisions after which an unsolved episode ends; that of the registered environment where None.
        settings: Arguments of `gymnasium.make` beyond the name.

    Raises:
        SettingError: If the environment is unknown or its actions are no bounded box, or an argument breaks its rule.
        MissingExtraError: If Gymnasium is not installed.

    Examples:
        ```yaml
        envs:
          - class_path: vla_kit.envs.gymnasium_env.GymnasiumEnv
            init_args:
              id: gym_pusht:gym_pusht/PushT-v0
              embodiment: pusht
              views: {cam_high: observation.pixels}
              rate_hz: 10
              success: info.is_success
              sentences: [push the T onto its outline]
              settings: {obs_type: pixels_agent_pos}
        ```
    """

    def __init__(
        self,
        id: str,
        *,
        embodiment: str,
        views: Mapping[str, str],
        rate_hz: float,
        success: str = "info.is_success",
        success_from: float = 1.0,
        sentences: Sequence[str] = (),
        instruction: str | None = None,
        state: str | None = None,
        max_steps: int | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if not views:
            raise SettingError("views must name at least one picture, got none. Write view tag: place.")
        places = {"success": success, "state": state, **{f"views[{tag!r}]": place for tag, place in views.items()}}
        for name, word in {"embodiment": embodiment, **places}.items():
            if word == "":
                raise SettingError(
                    f"{name} must not be empty, got ''. Name the robot, and places such as info.is_success."
                )
        if bool(sentences) == bool(instruction):
            raise SettingError(
                f"sentences or instruction must be given, and not both, got {list(sentences)} and {instruction!r}. "
                "Write sentences where the environment has none."
            )
        if not 0 < rate_hz < math.inf:
            raise SettingError(f"rate_hz must be above 0 and finite, got {rate_hz}. Use that of the training data.")
        if not math.isfinite(success_from):
            raise SettingError(f"success_from must be finite, got {success_from}. Use 1 for a boolean.")
        if max_steps is not None and max_steps < 1:
            raise SettingError(f"max_steps must be at least 1, got {max_steps}. Leave it out for the limit of {id}.")
        given = dict(settings or {})
        if _RENDER in views.values():
            given.setdefault("render_mode", "rgb_array")
        try:
            self._env: Any = gymnasium.make(id, **given)
        except (gymnasium.error.Error, ModuleNotFoundError) as error:
            raise SettingError(
                f"id must be a registered environment, got {id!r} ({error}). Install it, or put its module before the "
                "name: module:Name-v0."
            ) from error
        except TypeError as error:
            raise SettingError(
                f"settings must be arguments of {id}, got {given} ({error}). Look them up in its documentation."
            ) from error
        limit = max_steps or getattr(self._env.spec, "max_episode_steps", None)
        if limit is None:
            raise SettingError(f"max_steps must be at least 1 where {id} has no limit of its own, got None. Set it.")
        self._low, self._high = _limits(self._env.action_space, id)
        self._dtype = self._env.action_space.dtype
        self._id, self._embodiment, self._views, self._rate_hz = id, embodiment, dict(views), float(rate_hz)
        self._success_at, self._success_from = success, success_from
        self._sentences, self._instruction_at, self._max_steps = tuple(sentences), instruction, int(limit)
        self._state_at = state
        self._seen: dict[str, Any] | None = None
        self._instruction = ""
        self._decisions = 0
        self._done, self._success = True, False

    @property
    def task(self) -> str:
        """The name that Gymnasium knows, without the module."""
        return self._id.rpartition(":")[2]

    @property
    def embodiment(self) -> str:
        """Name of the robot."""
        return self._embodiment

    @property
    def view_tags(self) -> tuple[str, ...]:
        """As given."""
        return tuple(self._views)

    @property
    def max_steps(self) -> int:
        """Decisions after which an unsolved episode ends."""
        return self._max_steps

    @property
    def rate_hz(self) -> float:
        """Decisions per simulated second [Hz]."""
        return self._rate_hz

    @property
    def action_low(self) -> Action:
        """Lowest action of the box."""
        return self._low.copy()

    @property
    def action_high(self) -> Action:
        """Highest action of the box."""
        return self._high.copy()

    @property
    def instruction(self) -> str:
        """What the robot is told; may be set after `reset`."""
        return self._instruction

    @instruction.setter
    def instruction(self, text: str) -> None:
        self._instruction = text

    def reset(self, seed: int) -> str:
        """Begin an episode.

        Args:
            seed: Number of the episode, given to the environment's `reset`.

        Returns:
            The instruction.

        Raises:
            SettingError: If the seed lies outside [0, 2**32), or there is no instruction at its place.
        """
        observation, info = self._env.reset(seed=check_seed(seed))
        self._seen = {"observation": observation, "info": info}
        if self._instruction_at is None:
            rng = np.random.default_rng([seed, _INSTRUCTION_STREAM])
            self._instruction = self._sentences[int(rng.integers(len(self._sentences)))]
        else:
            self._instruction = str(_at(self._seen, self._instruction_at, "instruction"))
        self._decisions = 0
        self._done = self._success = False
        return self._instruction

    def look(self) -> Pictures:
        """The pictures now.

        Returns:
            View tag -> RGB in [0, 255].

        Raises:
            SimulationError: If a picture is constant, or no episode was begun.
            SettingError: If there is nothing at the place of a view.
            DtypeError: If a picture is not uint8.
            ShapeError: If a picture is no RGB picture.
        """
        if self._seen is None:
            raise SimulationError("look must come after reset, got no episode. Call reset(seed) first.")
        found = {}
        for tag, place in self._views.items():
            picture = self._env.render() if place == _RENDER else _at(self._seen, place, f"views[{tag!r}]")
            found[tag] = check_frame(_picture(picture, tag), tag=tag)
        return found

    def robot_state(self) -> State | None:
        """The measurements now, in one row; None where no place was given.

        Raises:
            SimulationError: If no episode was begun.
            SettingError: If there is nothing at the place.
        """
        if self._state_at is None:
            return None
        if self._seen is None:
            raise SimulationError("robot_state must come after reset, got no episode. Call reset(seed) first.")
        return np.asarray(_at(self._seen, self._state_at, "state"), dtype=np.float64).reshape(-1)

    def step(self, action: Action) -> StepResult:
        """Carry out one decision.

        Args:
            action: One value per channel, clipped to the box.

        Returns:
            Success so far, and whether the episode is over.

        Raises:
            ShapeError: If the action has another size.
            SettingError: If an entry is NaN or infinite, or nothing tells success at the end.
            SimulationError: If the episode is over or was never begun.
        """
        clipped = np.clip(check_action(action, size=self._low.size), self._low, self._high)
        if self._done:
            raise SimulationError("step must come in a running episode, got one that is over. Call reset(seed) first.")
        observation, reward, terminated, truncated, info = self._env.step(clipped.astype(self._dtype))
        self._seen = {"observation": observation, "info": info, "reward": reward, "terminated": terminated}
        self._decisions += 1
        over = bool(terminated or truncated) or self._decisions >= self._max_steps
        try:
            value = float(_at(self._seen, self._success_at, "success"))
        except SettingError:
            if over:
                raise
            value = -np.inf
        self._success = self._success or value >= self._success_from
        self._done = over or self._success
        return StepResult(success=self._success, done=self._done)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()
        self._done, self._seen = True, None


class AsGymnasium(gymnasium.Env):
    """A `PolicyEnv` for libraries that take Gymnasium environments.

    Observations are a dict of pictures, one per view; `info` holds `instruction` and `is_success`; the reward is 1 at
    success and 0 otherwise. An episode is reset once to learn the size of the pictures.

    Args:
        env: The environment; closed with this one.

    Examples:
        >>> from vla_kit.envs.registry import make_env
        >>> env = AsGymnasium(make_env("metaworld/reach"))
        >>> observation, info = env.reset(seed=0)
        >>> observation["cam_high"].shape, info["instruction"]
        ((96, 96, 3), 'go to the red ball')
        >>> env.close()
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012 (Gymnasium's form)
    render_mode = "rgb_array"

    def __init__(self, env: PolicyEnv) -> None:
        self._policy_env = env
        self.metadata = {**self.metadata, "render_fps": env.rate_hz}
        env.reset(0)
        self.observation_space = gymnasium.spaces.Dict(
            {tag: gymnasium.spaces.Box(0, 255, picture.shape, np.uint8) for tag, picture in env.look().items()}
        )
        self.action_space = gymnasium.spaces.Box(env.action_low, env.action_high, dtype=np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Pictures, dict[str, Any]]:
        """Begin an episode; without a seed, one is drawn."""
        super().reset(seed=seed)
        drawn = int(self.np_random.integers(2**32)) if seed is None else seed
        instruction = self._policy_env.reset(drawn)
        return self._policy_env.look(), {"instruction": instruction, "is_success": False}

    def step(self, action: Action) -> tuple[Pictures, float, bool, bool, dict[str, Any]]:
        """Carry out one decision."""
        step = self._policy_env.step(action)
        info = {"instruction": self._policy_env.instruction, "is_success": step.success}
        return self._policy_env.look(), float(step.success), step.success, step.done and not step.success, info

    def render(self) -> UInt8[np.ndarray, "height image_width 3"]:
        """The views side by side."""
        return np.concatenate(list(self._policy_env.look().values()), axis=1)

    def close(self) -> None:
        """Close the environment."""
        self._policy_env.close()


def _limits(space: Any, id: str) -> tuple[Action, Action]:  # noqa: ANN401 (of Gymnasium)
    bounded = isinstance(space, gymnasium.spaces.Box) and len(space.shape) == 1 and space.is_bounded()
    if not bounded:
        raise SettingError(
            f"the actions of {id} must be one bounded row of numbers, got {space}. Wrap the environment: "
            "gymnasium.wrappers.RescaleAction, FlattenAction or one of your own."
        )
    return np.array(space.low, dtype=np.float64), np.array(space.high, dtype=np.float64)


def _at(tree: Any, path: str, argument: str) -> Any:  # noqa: ANN401 (whatever an environment returns)
    """What lies at a path; keys may hold dots themselves."""
    if not path:
        return tree
    if isinstance(tree, Mapping):
        words = path.split(".")
        for end in range(len(words), 0, -1):
            if ".".join(words[:end]) in tree:
                return _at(tree[".".join(words[:end])], ".".join(words[end:]), argument)
    keys = sorted(map(str, tree)) if isinstance(tree, Mapping) else f"a {type(tree).__name__}"
    raise SettingError(f"{argument} must be the place of something, got {path!r} in {keys}. Check the spelling.")


def _picture(picture: Any, tag: str) -> UInt8[np.ndarray, "height image_width 3"]:  # noqa: ANN401 (whatever an environment returns)
    array = np.asarray(picture)
    if array.dtype != np.uint8:
        raise DtypeError(f"views[{tag!r}] must be uint8 in [0, 255], got {array.dtype}. Keep raw pixels.")
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3:
        array = np.moveaxis(array, 0, -1)
    if array.ndim != 3 or array.shape[2] != 3:
        raise ShapeError(f"views[{tag!r}] must have the shape (height, image_width, 3), got {array.shape}.")
    return np.ascontiguousarray(array)
