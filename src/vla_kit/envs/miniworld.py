"""MiniWorld: a robot that sees rooms in first person and moves from waypoint to waypoint.

Needs `pip install 'vla-kit[navigation]'` and libraries to draw with (Debian: `libegl1 libgl1 libgl1-mesa-dri
libglu1-mesa`); without a display it draws through EGL.
"""

import io
import math
import os
from contextlib import redirect_stdout
from typing import Final

import numpy as np

import vla_kit.envs._before_drawing  # noqa: F401 (triton before Mesa)
from vla_kit.envs.floor_plan import Disc, FloorPlan, ShortestPaths, shared_wall
from vla_kit.envs.miniworld_scenes import NavigationScene, draw_scene
from vla_kit.envs.navigation import NavigationTrace, places_along
from vla_kit.envs.protocol import Action, Pictures, SimulationError, StepResult, check_action, check_frame, check_seed
from vla_kit.envs.standing_still import StandingStill
from vla_kit.envs.tasks import TASKS
from vla_kit.errors import MissingExtraError, SettingError

try:
    import pyglet

    if not os.environ.get("DISPLAY"):
        pyglet.options["headless"] = True  # EGL; it must be said before the first window
    from miniworld.entity import Ball, Box
    from miniworld.miniworld import MiniWorldEnv as Simulator
    from miniworld.miniworld import Room as DrawnRoom
    from miniworld.params import DEFAULT_PARAMS
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "miniworld", extra="navigation") from error
except ImportError as error:  # pyglet's, where a library of the system is missing
    raise SimulationError(
        f"MiniWorld must find EGL, GL and GLU to draw, got {error}. Run: apt-get install -y libegl1 libgl1 "
        "libgl1-mesa-dri libglu1-mesa"
    ) from error

__all__ = ["MiniWorldEnv"]

_VIEW: Final = "ego"
_RATE_HZ: Final = 2.0
_LIMITS: Final = np.array([0.4, 0.4, math.pi / 6])
_RADIUS_M: Final = 0.25
_MARGIN_M: Final = 0.1
_SUCCESS_M: Final = 1.25
_PART_M: Final = 0.05
_PLACES_M: Final = 0.25
_STOP_STEPS: Final = 4
_STOP_M: Final = 0.3
_STOP_RAD: Final = math.radians(30)
_FIELD_OF_VIEW: Final = 80.0
_CAMERA_M: Final = 1.2
_STEPS: Final = {"follow-route": 60, "find-object": 40, "follow-target": 70}


class MiniWorldEnv:
    """One navigation task in rooms that every seed draws anew.

    An action is a waypoint `(dx, dy, dtheta)` from the pose where the robot stands: metres forward and to the left,
    then radians to the left. The robot, a disc of 25 cm, is moved there in parts of 5 cm; a part that would touch a
    wall or an object is done along one axis alone, so the robot slides, or not at all. Turning is always possible.
    There is no inertia and no noise.

    The robot **stops by standing still**: when four decisions in a row together ask for at most 30 cm and 30 degrees,
    the episode is over. It is a success if the shortest way to the goal is then shorter than 1.25 m. Whoever passes the
    goal and does not stop has failed. What is asked for counts, not what is reached: pushing against a wall is no stop.

    - `follow-route`: a route in words through rooms; the goal is the middle of the last one.
    - `find-object`: one of four objects by its name; the goal is the object.
    - `follow-target`: an object that moves at 22 cm per decision and comes to rest; the goal is where it rests. A stop
      while it still moves, further away, is a failure.

    Args:
        task: Name of the task, such as `find-object`.
        image_size: Height and width of a picture [pixels].
        max_steps: Decisions after which an episode that has not stopped ends; the task's own number where None.

    Raises:
        SettingError: If the task is unknown or a number is not positive.
        SimulationError: If nothing can be drawn.

    Examples:
        >>> env = MiniWorldEnv("find-object")
        >>> env.reset(0)
        'look for the red box and stop in front of it'
        >>> env.step(np.zeros(3))
        StepResult(success=False, done=False)
        >>> env.close()

    Source:
        MiniWorld (Chevalier-Boisvert et al. 2023, arXiv 2306.13831). The three families are those of Qwen-VLA,
        arXiv 2605.30280, table 1, in miniature; layouts, rates and thresholds are ours.
    """

    def __init__(self, task: str, *, image_size: int = 96, max_steps: int | None = None) -> None:
        if f"miniworld/{task}" not in TASKS:
            raise SettingError(f"task must be one of {list(_STEPS)}, got {task!r}. Check the spelling.")
        if image_size < 1:
            raise SettingError(f"image_size must be at least 1, got {image_size}. 96 is what the demo uses.")
        limit = _STEPS[task] if max_steps is None else max_steps
        if limit < 1:
            raise SettingError(f"max_steps must be at least 1, got {max_steps}. Leave it out for {_STEPS[task]}.")
        self._family, self._task, self._max_steps = task, TASKS[f"miniworld/{task}"], limit
        self._scene = draw_scene(task, 0)
        self._simulator = _Drawing(self._scene, image_size)
        self._paths: ShortestPaths | None = None
        self._pose = np.zeros(3)
        self._trail: list[np.ndarray] = []
        self._standing = StandingStill(steps=_STOP_STEPS, distance_m=_STOP_M, angle_rad=_STOP_RAD)
        self._instruction = ""
        self._done, self._stopped, self._success = True, False, False

    @property
    def task(self) -> str:
        """Name in the registry."""
        return self._task.name

    @property
    def embodiment(self) -> str:
        """`miniworld_agent`."""
        return self._task.embodiment

    @property
    def view_tags(self) -> tuple[str, ...]:
        """One camera, at the robot's head."""
        return (_VIEW,)

    @property
    def max_steps(self) -> int:
        """Decisions after which an episode that has not stopped ends."""
        return self._max_steps

    @property
    def rate_hz(self) -> float:
        """Two decisions, and two pictures, per second."""
        return _RATE_HZ

    @property
    def action_low(self) -> Action:
        """40 cm back and to the right, 30 degrees to the right."""
        return -_LIMITS

    @property
    def action_high(self) -> Action:
        """40 cm forward and to the left, 30 degrees to the left."""
        return _LIMITS.copy()

    @property
    def instruction(self) -> str:
        """What the robot is told; may be set after `reset`."""
        return self._instruction

    @instruction.setter
    def instruction(self, text: str) -> None:
        self._instruction = text

    def reset(self, seed: int) -> str:
        """Begin an episode in the layout of a seed.

        Args:
            seed: Number of the episode, in [0, 2**32).

        Returns:
            The instruction.

        Raises:
            SettingError: If the seed lies outside.
        """
        self._scene = draw_scene(self._family, check_seed(seed))
        self._simulator.show(self._scene)
        self._paths = ShortestPaths(
            FloorPlan(self._scene.plan.rooms, self._scene.plan.doors, self._others()),
            np.array(self._scene.goal),
            radius=_RADIUS_M + _MARGIN_M,
        )
        self._pose = np.array(self._scene.start)
        self._trail = [self._pose.copy()]
        self._standing.reset()
        self._instruction = self._task.instruction(seed).format(**self._scene.words)
        self._done = self._stopped = self._success = False
        return self._instruction

    def look(self) -> Pictures:
        """Draw what the robot sees now.

        Returns:
            View tag -> RGB in [0, 255].

        Raises:
            SimulationError: If the picture is constant, or no episode was begun.
        """
        if not self._trail:
            raise SimulationError("look must come after reset, got no episode. Call reset(seed) first.")
        picture = self._simulator.draw(self._pose, target=self._target())
        return {_VIEW: check_frame(picture, tag=_VIEW)}

    def step(self, action: Action) -> StepResult:
        """Go to a waypoint, then let the target move.

        Args:
            action: dx, dy [m] and dtheta [rad], clipped to the limits.

        Returns:
            Success so far, and whether the episode is over.

        Raises:
            ShapeError: If the action does not have three entries.
            SettingError: If an entry is NaN or infinite.
            SimulationError: If the episode is over or was never begun.
        """
        asked = np.clip(check_action(action, size=3), -_LIMITS, _LIMITS)
        if self._done:
            raise SimulationError("step must come in a running episode, got one that is over. Call reset(seed) first.")
        self._move(asked)
        self._trail.append(self._pose.copy())
        self._stopped = self._standing(asked)
        self._success = self._stopped and self._to_goal(self._pose[:2]) < _SUCCESS_M
        self._done = self._stopped or self._decisions >= self._max_steps
        return StepResult(success=self._success, done=self._done)

    def navigation_trace(self) -> NavigationTrace:
        """Where the robot went so far, for SPL and its like.

        The shortest way goes around objects, at 35 cm from everything. It ends where the robot touches the object that
        is its goal; distances are to the middle of the goal. The reference is that way in places 25 cm apart, as in
        VLN-CE. Where the target moves, the shortest way and the reference are the target's own, for the robot cannot
        know where it will rest.

        Raises:
            SimulationError: If no episode was begun.
        """
        if self._paths is None:
            raise SimulationError("navigation_trace must come after reset, got no episode. Call reset(seed) first.")
        path = np.stack(self._trail)[:, :2]
        way = self._paths.path(path[0])
        assert way is not None  # noqa: S101 (scenes are drawn so that there is one)
        if self._scene.target_path is None:
            reference = places_along(way, spacing_m=_PLACES_M)
        else:
            reference = way = np.vstack([path[:1], self._scene.target_path])
        touched = self._scene.objects[0].disc.radius + _RADIUS_M if self._scene.objects else 0.0
        return NavigationTrace(
            path=path,
            goal_distances=np.array([self._to_goal(place) for place in path]),
            shortest_m=max(0.0, float(np.linalg.norm(np.diff(way, axis=0), axis=1).sum()) - touched),
            stopped=self._stopped,
            success_m=_SUCCESS_M,
            reference=reference,
        )

    def close(self) -> None:
        """Free the renderer."""
        self._simulator.close()
        self._done, self._trail = True, []

    @property
    def _decisions(self) -> int:
        return len(self._trail) - 1

    def _to_goal(self, place: np.ndarray) -> float:
        assert self._paths is not None  # noqa: S101 (an episode runs)
        return self._paths.length(place)

    def _target(self) -> np.ndarray | None:
        """Place of what moves, now."""
        path = self._scene.target_path
        return None if path is None else path[min(self._decisions, len(path) - 1)]

    def _others(self) -> list[Disc]:
        """Objects that are not the goal."""
        return [one.disc for one in self._scene.objects[1:]]

    def _obstacles(self) -> FloorPlan:
        """Everything that stands in the way now."""
        discs = self._others()
        if self._scene.objects:
            goal, place = self._scene.objects[0].disc, self._target()
            discs.append(goal if place is None else Disc(x=float(place[0]), y=float(place[1]), radius=goal.radius))
        return FloorPlan(self._scene.plan.rooms, self._scene.plan.doors, discs)

    def _move(self, asked: np.ndarray) -> None:
        """Translate in small parts, each along one axis alone where it would touch something; then turn."""
        x, y, heading = self._pose
        cosine, sine = math.cos(heading), math.sin(heading)
        way = np.array([cosine * asked[0] - sine * asked[1], sine * asked[0] + cosine * asked[1]])
        count = max(1, math.ceil(float(np.linalg.norm(way)) / _PART_M))
        around, place = self._obstacles(), np.array([x, y])
        for _ in range(count):
            part = way / count
            now = float(around.clearance(place[None])[0])
            tries = place + np.array([part, [part[0], 0.0], [0.0, part[1]]])
            clear = around.clearance(tries)
            # One that is touched already, because the target came near, may still move away.
            free = [one for one, room in zip(tries, clear, strict=True) if room >= min(_RADIUS_M, now)]
            place = free[0] if free else place
        turned = math.remainder(heading + asked[2], 2 * math.pi)
        self._pose = np.array([place[0], place[1], turned])


class _Drawing(Simulator):
    """MiniWorld as a renderer: it builds what a scene says and draws what a pose sees."""

    _shown: "_Drawing | None" = None
    """Whose walls are compiled: MiniWorld keeps them under one number for all its instances."""

    def __init__(self, scene: NavigationScene, image_size: int) -> None:
        self._scene = scene
        camera = DEFAULT_PARAMS.copy()
        camera.set("cam_fov_y", _FIELD_OF_VIEW)
        camera.set("cam_height", _CAMERA_M)
        with redirect_stdout(io.StringIO()):  # it tells how far it smooths edges
            super().__init__(
                obs_width=image_size, obs_height=image_size, window_width=16, window_height=16, params=camera
            )
        _Drawing._shown = self

    def show(self, scene: NavigationScene) -> None:
        """Build a scene."""
        self._scene = scene
        self.reset(seed=0)  # nothing is drawn from it
        _Drawing._shown = self

    def draw(self, pose: np.ndarray, *, target: np.ndarray | None) -> np.ndarray:
        """RGB of what is seen from a pose."""
        if _Drawing._shown is not self:
            self.shadow_window.switch_to()
            self._render_static()
            _Drawing._shown = self
        self.agent.pos, self.agent.dir = _in_simulator(*pose[:2]), float(pose[2])
        if target is not None:
            self.entities[0].pos = _in_simulator(*target)
        picture: np.ndarray = self.render_obs()
        return picture

    def close(self) -> None:
        """Give the context up."""
        if _Drawing._shown is self:
            _Drawing._shown = None
        self.shadow_window.close()

    def _gen_world(self) -> None:
        scene = self._scene
        drawn: list[DrawnRoom] = [
            self.add_rect_room(
                min_x=room.west,
                max_x=room.east,
                min_z=-room.north,
                max_z=-room.south,
                wall_tex=wall,
                floor_tex=floor,
            )
            for room, (wall, floor) in zip(scene.plan.rooms, scene.looks, strict=True)
        ]
        for door in scene.plan.doors:
            low, high = door.span
            runs_north, *_ = shared_wall(*(scene.plan.rooms[number] for number in door.rooms))
            place = {"min_z": -high, "max_z": -low} if runs_north else {"min_x": low, "max_x": high}
            self.connect_rooms(*(drawn[number] for number in door.rooms), **place, max_y=2.2)
        for one in scene.objects:
            entity = Ball(color=one.colour, size=0.7) if one.kind == "ball" else Box(color=one.colour, size=0.6)
            self.place_entity(entity, pos=_in_simulator(one.x, one.y), dir=0.0)
        self.place_agent(pos=_in_simulator(*scene.start[:2]), dir=scene.start[2])


def _in_simulator(x: float, y: float) -> np.ndarray:
    """MiniWorld's y points up and its z south."""
    return np.array([x, 0.0, -y])
