"""Habitat's VLN-CE: the same waypoints, carried out as steps of 25 cm and turns of 15 degrees.

Needs habitat-lab (`pip install 'vla-kit[habitat]'`), habitat-sim (conda or from source: it has no wheels for current
versions of Python), the Matterport3D scans and the episodes, which their owners give to whoever signs for them. It is
tested against a stand-in for Habitat alone; nobody has run it on the scans.
"""

import math
from typing import Any, Final

import numpy as np
import torch

import vla_kit.envs._before_drawing  # noqa: F401 (triton before Mesa)
from vla_kit.actions import (
    DiscreteAction,
    StopRule,
    integrate_waypoints,
    waypoints_between,
    waypoints_to_discrete,
)
from vla_kit.envs.navigation import NavigationTrace
from vla_kit.envs.protocol import Action, Pictures, SimulationError, StepResult, check_action, check_frame, check_seed
from vla_kit.envs.seeds import EVALUATION_SEEDS_FROM
from vla_kit.envs.standing_still import StandingStill
from vla_kit.errors import MissingExtraError, SettingError

try:
    import habitat
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "habitat", extra="habitat") from error

__all__ = ["HabitatVLNEnv"]

_VIEW: Final = "ego"
_NEVER: Final = StopRule(distance_m=0.0, angle_rad=0.0)
"""A waypoint alone never stops: only standing still for a while does."""


class HabitatVLNEnv:
    """Episodes of R2R-CE or RxR-CE in Habitat, as a `PolicyEnv`.

    An action is a waypoint `(dx, dy, dtheta)` from where the robot stands, as in `MiniWorldEnv`. It becomes the actions
    of VLN-CE that come nearest to it; what rounding leaves is made up for by the next waypoint, unless the robot was
    blocked. The robot stops by standing still, for `stop_steps` decisions; then Habitat gets its STOP. An episode is a
    success where the stop is nearer to the goal than `success_m`, by Habitat's geodesic distance.

    Seeds name episodes: the first evaluation seed is the first episode of the configuration's split, and so on, around.

    Args:
        config: Configuration of Habitat, such as VLN-CE's `vlnce_task.yaml`, with RGB sensor, split and data paths. The
            possible actions must begin with stop, forward, left, right, as VLN-CE's do.
        embodiment: Name of the robot, as the policy knows it; one whose waypoints are each measured from the one before
            it.
        rate_hz: Decisions per second that the policy was trained with [Hz].
        max_steps: Decisions after which an episode that has not stopped ends. Habitat has a limit of its own, in its
            finer steps.
        max_step_m: Longest way of one waypoint, per axis [m].
        max_turn_rad: Largest turn of one waypoint [rad].
        stop_steps: Decisions in a row that stand still before the robot has stopped.
        stop_m: Longest way of them in all [m].
        stop_rad: Most turning of them in all [rad].
        success_m: Distance to the goal within which a stop is a success [m].
        step_m: Habitat's step forward [m].
        turn_rad: Habitat's turn [rad]; 30 degrees in RxR-CE.
        picture: Key of the RGB picture in Habitat's observations.

    Raises:
        SettingError: If the configuration has no episodes, or a number is not positive.
        MissingExtraError: If Habitat is not installed.

    Examples:
        ```yaml
        envs:
          - class_path: vla_kit.envs.habitat.HabitatVLNEnv
            init_args: {config: vlnce_task.yaml, embodiment: miniworld_agent}
        ```

    Source:
        VLN-CE (Krantz et al. 2020, arXiv 2004.02857). Qwen-VLA, arXiv 2605.30280, section 5.1.3, evaluates there with
        waypoints over a sliding window; how it turns them into actions is not published.
    """

    def __init__(
        self,
        config: str,
        *,
        embodiment: str = "miniworld_agent",
        rate_hz: float = 2.0,
        max_steps: int = 200,
        max_step_m: float = 0.5,
        max_turn_rad: float = math.pi / 4,
        stop_steps: int = 4,
        stop_m: float = 0.3,
        stop_rad: float = math.radians(30),
        success_m: float = 3.0,
        step_m: float = 0.25,
        turn_rad: float = math.radians(15),
        picture: str = "rgb",
    ) -> None:
        for name, value in (
            ("rate_hz", rate_hz),
            ("max_steps", max_steps),
            ("max_step_m", max_step_m),
            ("max_turn_rad", max_turn_rad),
            ("success_m", success_m),
        ):
            if not 0 < value < math.inf:
                raise SettingError(f"{name} must be above 0 and finite, got {value}. Raise it.")
        self._standing = StandingStill(steps=stop_steps, distance_m=stop_m, angle_rad=stop_rad)
        self._habitat: Any = habitat.Env(config=habitat.get_config(config))
        self._episodes = list(self._habitat.episodes)
        if not self._episodes:
            raise SettingError(f"config must name a split with episodes, got none in {config}. Check its data path.")
        self._embodiment, self._rate_hz, self._max_steps = embodiment, float(rate_hz), int(max_steps)
        self._limits = np.array([max_step_m, max_step_m, max_turn_rad])
        self._success_m, self._step_m, self._turn_rad, self._picture = success_m, step_m, turn_rad, picture
        self._seen: Any = None
        self._instruction = ""
        self._wanted, self._goal, self._reference = np.zeros(3), np.zeros(3), np.zeros((0, 3))
        self._trail: list[np.ndarray] = []
        self._distances: list[float] = []
        self._decisions = 0
        self._done, self._stopped = True, False

    @property
    def task(self) -> str:
        """`habitat/vln-ce`."""
        return "habitat/vln-ce"

    @property
    def embodiment(self) -> str:
        """As given."""
        return self._embodiment

    @property
    def view_tags(self) -> tuple[str, ...]:
        """One camera."""
        return (_VIEW,)

    @property
    def max_steps(self) -> int:
        """Decisions after which an episode that has not stopped ends."""
        return self._max_steps

    @property
    def rate_hz(self) -> float:
        """As given."""
        return self._rate_hz

    @property
    def action_low(self) -> Action:
        """The longest way back and to the right, and the largest turn to the right."""
        return -self._limits

    @property
    def action_high(self) -> Action:
        """The longest way forward and to the left, and the largest turn to the left."""
        return self._limits.copy()

    @property
    def instruction(self) -> str:
        """What the robot is told; may be set after `reset`."""
        return self._instruction

    @instruction.setter
    def instruction(self, text: str) -> None:
        self._instruction = text

    def reset(self, seed: int) -> str:
        """Begin the episode of a seed.

        Args:
            seed: Number of the episode, in [0, 2**32); `EVALUATION_SEEDS_FROM` is the first of the split.

        Returns:
            The instruction.

        Raises:
            SettingError: If the seed lies outside.
            SimulationError: If the goal cannot be reached from the start.
        """
        episode = self._episodes[(check_seed(seed) - EVALUATION_SEEDS_FROM) % len(self._episodes)]
        self._habitat.episode_iterator = iter([episode])
        self._seen = self._habitat.reset()
        self._goal = np.asarray(episode.goals[0].position, dtype=np.float64)
        self._reference = np.asarray(episode.reference_path, dtype=np.float64).reshape(-1, 3)
        self._instruction = " ".join(str(episode.instruction.instruction_text).split())
        self._standing.reset()
        self._wanted, self._decisions = self._pose(), 0
        self._trail, self._distances = [], []
        self._note()
        self._done, self._stopped = False, False
        if not math.isfinite(self._distances[0]):
            self._done = True
            raise SimulationError(
                f"the goal of episode {episode.episode_id} must be reached from its start, got no way. Leave it out of "
                "the split."
            )
        return self._instruction

    def look(self) -> Pictures:
        """The picture after the last action of Habitat.

        Returns:
            View tag -> RGB in [0, 255].

        Raises:
            SimulationError: If the picture is missing or constant, or no episode was begun.
        """
        if self._seen is None:
            raise SimulationError("look must come after reset, got no episode. Call reset(seed) first.")
        if self._picture not in self._seen:
            raise SimulationError(
                f"observations must hold {self._picture!r}, got {sorted(self._seen)}. Add the RGB sensor to the "
                "configuration, or name it with picture."
            )
        picture = np.ascontiguousarray(np.asarray(self._seen[self._picture], dtype=np.uint8)[..., :3])
        return {_VIEW: check_frame(picture, tag=_VIEW)}

    def step(self, action: Action) -> StepResult:
        """Go to a waypoint as nearly as Habitat's steps and turns can.

        Args:
            action: dx, dy [m] and dtheta [rad], clipped to the limits.

        Returns:
            Success so far, and whether the episode is over.

        Raises:
            ShapeError: If the action does not have three entries.
            SettingError: If an entry is NaN or infinite.
            SimulationError: If the episode is over or was never begun.
        """
        asked = np.clip(check_action(action, size=3), -self._limits, self._limits)
        if self._done:
            raise SimulationError("step must come in a running episode, got one that is over. Call reset(seed) first.")
        self._decisions += 1
        if self._standing(asked):
            self._seen = self._habitat.step(int(DiscreteAction.STOP))
            self._stopped = True
        else:
            self._go(asked)
        self._note()
        self._done = self._stopped or bool(self._habitat.episode_over) or self._decisions >= self._max_steps
        success = self._stopped and self._distances[-1] < self._success_m
        return StepResult(success=success, done=self._done)

    def navigation_trace(self) -> NavigationTrace:
        """Where the robot went so far, once per decision, in Habitat's axes.

        The reference is the episode's path of viewpoints. VLN-CE's own nDTW compares with the places of its file of
        ground truth, which are denser: take that from Habitat's measures where a number is to be compared.

        Raises:
            SimulationError: If no episode was begun.
        """
        if not self._trail:
            raise SimulationError("navigation_trace must come after reset, got no episode. Call reset(seed) first.")
        return NavigationTrace(
            path=np.stack(self._trail),
            goal_distances=np.array(self._distances),
            shortest_m=self._distances[0],
            stopped=self._stopped,
            success_m=self._success_m,
            reference=self._reference if len(self._reference) else np.stack([self._trail[0], self._goal]),
        )

    def close(self) -> None:
        """Close Habitat."""
        self._habitat.close()
        self._done, self._seen, self._trail = True, None, []

    def _go(self, asked: np.ndarray) -> None:
        """Follow the waypoint, and what earlier ones left over."""
        self._wanted = _integrated(self._wanted, asked)
        start = torch.from_numpy(self._pose())
        way = waypoints_between(torch.from_numpy(self._wanted)[None], start)
        for action in waypoints_to_discrete(way, stop=_NEVER, step_m=self._step_m, turn_rad=self._turn_rad):
            if self._habitat.episode_over or action == DiscreteAction.STOP:  # nothing to do is told as a stop
                break
            self._seen = self._habitat.step(int(action))
        left = self._wanted - self._pose()
        if float(np.hypot(left[0], left[1])) > 0.75 * self._step_m:  # more than rounding leaves: blocked
            self._wanted = self._pose()

    def _pose(self) -> np.ndarray:
        """Pose in the ground plane: Habitat's y points up, and a robot without a turn looks along -z."""
        state = self._habitat.sim.get_agent_state()
        yaw = 2 * math.atan2(float(state.rotation.y), float(state.rotation.w))
        x, _, z = (float(one) for one in state.position)
        return np.array([x, -z, math.remainder(yaw + math.pi / 2, 2 * math.pi)])

    def _note(self) -> None:
        place = np.array(self._habitat.sim.get_agent_state().position, dtype=np.float64)
        self._trail.append(place)
        self._distances.append(float(self._habitat.sim.geodesic_distance(place.tolist(), self._goal.tolist())))


def _integrated(pose: np.ndarray, waypoint: np.ndarray) -> np.ndarray:
    reached: np.ndarray = integrate_waypoints(torch.from_numpy(waypoint)[None], torch.from_numpy(pose))[0].numpy()
    return reached
