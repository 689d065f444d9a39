"""The MiniWorld adapter, its scenes and its demonstrator; skipped where MiniWorld is not installed."""

import math
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from vla_kit.embodiment import PRESETS
from vla_kit.envs import (
    TASKS,
    Navigating,
    PolicyEnv,
    SimulationError,
    collect_episode,
    find_task,
    make_env,
    make_expert,
    navigation_trace,
)
from vla_kit.envs.floor_plan import ShortestPaths
from vla_kit.envs.miniworld_scenes import FAMILIES, draw_scene
from vla_kit.errors import SettingError, ShapeError
from vla_kit.metrics import ndtw

installed = pytest.mark.skipif(find_spec("miniworld") is None, reason="pip install 'vla-kit[navigation]' runs this")
ROUTE, FIND, FOLLOW = (f"miniworld/{name}" for name in ("follow-route", "find-object", "follow-target"))


@pytest.fixture(scope="module")
def envs():
    """One environment per task, all in one process, as an evaluation without workers has them."""
    if find_spec("miniworld") is None:
        pytest.skip("pip install 'vla-kit[navigation]' runs this")
    made = {name: make_env(name, image_size=48) for name in (ROUTE, FIND, FOLLOW)}
    yield made
    for env in made.values():
        env.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_scenes_follow_from_the_seed_and_can_be_walked(family):
    starts = set()
    for seed in range(12):
        scene, again = draw_scene(family, seed), draw_scene(family, seed)
        assert (scene.start, scene.goal, scene.words) == (again.start, again.goal, again.words)
        length = ShortestPaths(scene.plan, np.array(scene.goal), radius=0.35).length(np.array(scene.start[:2]))
        assert 0.8 < length < 12
        starts.add(scene.start)
        for one in scene.objects:
            assert scene.plan.clearance(np.array([[one.x, one.y]]))[0] > 0.35
    assert len(starts) == 12


def test_a_route_in_words_leads_to_its_room():
    """Walk the legs over the compass: the room that the words name holds the goal."""
    turns = {"left": 1, "right": -1, "straight": 0}
    for seed in range(25):
        scene = draw_scene("follow-route", seed)
        plan, heading = scene.plan, round(scene.start[2] / (math.pi / 2))
        assert abs(scene.start[2] - heading * math.pi / 2) <= 0.31
        room = next(
            number
            for number, one in enumerate(plan.rooms)
            if one.west < scene.start[0] < one.east and one.south < scene.start[1] < one.north
        )
        for leg in scene.words["route"].split(" and then "):
            heading += turns[leg.split()[1]]
            ahead = np.round([math.cos(heading * math.pi / 2), math.sin(heading * math.pi / 2)])
            through = [
                next(iter(set(door.rooms) - {room}))
                for door in plan.doors
                if room in door.rooms
                and np.dot(
                    np.subtract(plan.rooms[next(iter(set(door.rooms) - {room}))].middle, plan.rooms[room].middle), ahead
                )
                > 1.5
            ]
            (room,) = through
        assert scene.goal == plan.rooms[room].middle


def test_halls_and_rooms_have_floors_of_their_own():
    seen = [set(), set()]
    for seed in range(30):
        for number, (_, floor) in enumerate(draw_scene("follow-route", seed).looks):
            seen[number in (1, 4)].add(floor)
    assert not seen[0] & seen[1]
    assert len(seen[0]) == len(seen[1]) == 3


def test_names_are_told_apart():
    for seed in range(20):
        for family in ("find-object", "follow-target"):
            names = [one.name for one in draw_scene(family, seed).objects]
            assert len(set(names)) == len(names)


def test_an_unknown_family_is_refused():
    with pytest.raises(SettingError, match=r"family must be one of \['find-object'.*got 'fly'"):
        draw_scene("fly", 0)


@installed
def test_they_are_policy_envs_that_navigate(envs):
    for name, env in envs.items():
        assert isinstance(env, PolicyEnv)
        assert isinstance(env, Navigating)
        assert (env.task, env.embodiment, env.view_tags) == (name, "miniworld_agent", ("ego",))
        assert env.rate_hz == PRESETS["miniworld_agent"].rate_hz == 2.0
        assert env.action_low.shape == (PRESETS["miniworld_agent"].action_space.size,)
        assert "{" not in env.reset(0)
        assert env.instruction.split()[0] in " ".join(TASKS[name].sentences) + env.instruction
        assert {tag: (one.shape, one.dtype) for tag, one in env.look().items()} == {"ego": ((48, 48, 3), np.uint8)}


@installed
def test_equal_seeds_give_equal_pictures_whoever_drew_last(envs):
    first, other = envs[ROUTE], envs[FIND]
    first.reset(3)
    before = first.look()["ego"]
    other.reset(4)
    elsewhere = other.look()["ego"]
    assert not np.array_equal(before, elsewhere)
    np.testing.assert_array_equal(first.look()["ego"], before)
    np.testing.assert_array_equal(other.look()["ego"], elsewhere)
    first.reset(5)
    assert not np.array_equal(first.look()["ego"], before)
    first.reset(3)
    np.testing.assert_array_equal(first.look()["ego"], before)


@installed
def test_waypoints_are_in_the_frame_of_the_robot(envs):
    env = envs[FOLLOW]
    env.reset(0)
    x, y, heading = env._pose
    env.step(np.array([0.0, 0.0, 0.3]))
    np.testing.assert_allclose(env._pose, [x, y, math.remainder(heading + 0.3, math.tau)], atol=1e-12)
    env.step(np.array([0.1, 0.2, 0.0]))
    turned = heading + 0.3
    expected = [
        x + 0.1 * math.cos(turned) - 0.2 * math.sin(turned),
        y + 0.1 * math.sin(turned) + 0.2 * math.cos(turned),
    ]
    np.testing.assert_allclose(env._pose[:2], expected, atol=1e-12)


@installed
def test_the_picture_turns_with_the_robot(envs):
    """What lies to the left comes into view from the left: dtheta counts to the left in the picture too."""
    env = envs[FIND]
    seed = next(seed for seed in range(200) if _bearing(draw_scene("find-object", seed)) > math.radians(60))
    env.reset(seed)
    for _ in range(12):
        env.step(np.array([0.0, 0.0, math.pi / 6]))
        bearing = _bearing(draw_scene("find-object", seed), env._pose)
        if abs(bearing) < math.radians(25):
            break
    red = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0)}
    wanted = np.array(red[draw_scene("find-object", seed).objects[0].colour], dtype=bool)
    picture = env.look()["ego"].astype(int)
    bright = (np.where(wanted, picture, 255 - picture) > 140).all(axis=-1)
    assert bright.any()
    columns = np.argwhere(bright)[:, 1]
    assert np.sign(23.5 - np.median(columns)) == np.sign(bearing) or abs(bearing) < 0.1


def _bearing(scene, pose=None):
    x, y, heading = scene.start if pose is None else pose
    return math.remainder(math.atan2(scene.goal[1] - y, scene.goal[0] - x) - heading, math.tau)


@installed
def test_walls_stop_and_let_slide(envs):
    env = envs[FIND]
    env.reset(1)
    room = env._scene.plan.rooms[0]
    env._pose = np.array([room.west + 0.3, (room.south + room.north) / 2, math.pi - 0.4])
    plan = env._obstacles()
    for _ in range(12):
        env.step(np.array([0.4, 0.0, 0.0]))
        assert plan.clearance(env._pose[None, :2])[0] >= 0.25 - 1e-9
        if env._done:
            break
    assert env._pose[0] - room.west < 0.31
    assert env._pose[1] > (room.south + room.north) / 2 + 0.3


@installed
def test_standing_still_stops_and_nothing_else_does(envs):
    env = envs[FIND]
    env.reset(0)
    results = [env.step(np.zeros(3)) for _ in range(4)]
    assert [one.done for one in results] == [False, False, False, True]
    trace = env.navigation_trace()
    assert trace.stopped
    assert not results[-1].success
    with pytest.raises(SimulationError, match="step must come in a running episode"):
        env.step(np.zeros(3))
    env.reset(0)
    for step in range(env.max_steps):
        result = env.step(np.array([0.0, 0.0, 0.2 if step % 2 else -0.2]))  # looking left and right is no stop
        assert result.done == (step == env.max_steps - 1)
    assert not env.navigation_trace().stopped


@installed
def test_at_the_goal_without_a_stop_is_a_failure(envs):
    env = envs[ROUTE]
    env.reset(0)
    env._pose = np.array([*env._scene.goal, 0.0])
    result = env.step(np.array([0.0, 0.0, 0.5]))
    assert env.navigation_trace().goal_distances[-1] == 0.0
    assert not result.success
    results = [env.step(np.zeros(3)) for _ in range(3)]  # with that turn, less than 30 degrees in four decisions
    assert [result.done for result in results] == [False, False, True]
    assert results[-1].success
    assert results[-1].done


@installed
@pytest.mark.parametrize("name", [ROUTE, FIND, FOLLOW])
def test_the_expert_arrives_also_when_pushed(envs, name):
    env = envs[name]
    expert = make_expert(env)
    for seed in range(4):
        episode = collect_episode(env, expert, seed, disturbance=find_task(name).disturbance, render=False)
        assert episode.success, seed
        trace = navigation_trace(env)
        assert trace.stopped
        assert trace.goal_distances[-1] < trace.success_m
        assert len(trace.path) == len(episode.actions) + 1
        assert (np.abs(episode.actions) <= env.action_high + 1e-6).all()


@installed
def test_the_expert_turns_left_for_what_it_cannot_see(envs):
    env = envs[FIND]
    seed = next(seed for seed in range(200) if abs(_bearing(draw_scene("find-object", seed))) > math.radians(90))
    expert = make_expert(env)
    env.reset(seed)
    expert.reset()
    np.testing.assert_allclose(expert.act(), [0, 0, math.pi / 6])


@installed
def test_the_target_moves_and_comes_to_rest(envs):
    env = envs[FOLLOW]
    env.reset(2)
    path = env._scene.target_path
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).max() <= 0.22 + 1e-9
    np.testing.assert_array_equal(env._target(), path[0])
    env.step(np.array([0.0, 0.0, 0.5]))
    np.testing.assert_array_equal(env._target(), path[1])
    moved = env.look()["ego"]
    assert moved.std() > 1
    trace = env.navigation_trace()
    np.testing.assert_array_equal(trace.reference[1:], path)
    walked = np.linalg.norm(np.diff(trace.reference, axis=0), axis=1).sum()
    assert trace.shortest_m == pytest.approx(walked - 0.6)


@installed
@pytest.mark.parametrize("name", [ROUTE, FIND])
def test_the_expert_keeps_to_the_reference(envs, name):
    env = envs[name]
    expert = make_expert(env)
    env.reset(3)
    expert.reset()
    while not env.step(expert.act()).done:
        pass
    trace = env.navigation_trace()
    gaps = np.linalg.norm(np.diff(trace.reference, axis=0), axis=1)
    assert gaps.max() <= 0.25 + 1e-9  # VLN-CE's step
    assert ndtw(trace.path, trace.reference, success_m=trace.success_m) > 0.75
    assert ndtw(trace.path[:1], trace.reference, success_m=trace.success_m) < 0.5  # who stays at the start


@installed
def test_what_does_not_fit_is_refused(envs):
    with pytest.raises(SettingError, match=r"task must be one of \['follow-route', .*got 'fly'"):
        type(envs[FIND])("fly")
    with pytest.raises(SettingError, match="frame_skip must be None for miniworld/find-object, got 2"):
        make_env(FIND, frame_skip=2)
    with pytest.raises(SettingError, match="max_steps must be at least 1, got 0"):
        make_env(FIND, max_steps=0)
    env = envs[FIND]
    env.reset(0)
    with pytest.raises(ShapeError, match=r"action must have the shape \(3,\), got \(2,\)"):
        env.step(np.zeros(2))
    with pytest.raises(SettingError, match="action must be finite"):
        env.step(np.array([0.0, math.nan, 0.0]))


@installed
def test_nothing_runs_before_a_reset():
    env = make_env(FIND, image_size=32)
    expert = make_expert(env)
    for ask, text in (
        (env.look, "look must come after reset"),
        (env.navigation_trace, "navigation_trace must come after reset"),
        (expert.act, "act must come after reset"),
        (lambda: env.step(np.zeros(3)), "step must come in a running episode"),
    ):
        with pytest.raises(SimulationError, match=text):
            ask()
    env.close()


def test_a_missing_simulator_is_named_with_its_remedy():
    code = (
        "import sys\n"
        "sys.modules['miniworld'] = None\n"
        "from vla_kit.envs import make_env\n"
        "make_env('miniworld/find-object')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'vla-kit[navigation]'" in done.stderr.splitlines()[-1]
