import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("gymnasium")
sys.path.insert(0, str(Path(__file__).parent))  # workers get the path

from fake_env import LineEnv
from gymnasium.utils.env_checker import check_env

from vla_kit.envs import PolicyEnv, SimulationError, env_workers, robot_state
from vla_kit.envs.gymnasium_env import AsGymnasium, GymnasiumEnv
from vla_kit.errors import DtypeError, SettingError, ShapeError
from vla_kit.evaluation import evaluate, evaluation_seeds, own_task

SETTINGS = {
    "id": "toy_gymnasium:toy/Dot-v0",
    "embodiment": "dot",
    "views": {"cam_high": "observation.images.top", "wrist": "observation.camera.hand"},
    "rate_hz": 10.0,
    "sentences": ["move right", "go right"],
}
RIGHT = np.array([1.0, 0.0])


def dot(**changes):
    return GymnasiumEnv(**SETTINGS | changes)


class Right:
    def act(self, observations, *, generator):
        assert [tuple(seen.views) for seen in observations] == [("cam_high", "wrist")] * len(observations)
        return [np.tile(RIGHT, (4, 1)) for _ in observations]


def test_it_is_a_policy_env():
    env = dot()
    assert isinstance(env, PolicyEnv)
    assert (env.task, env.embodiment, env.view_tags) == ("toy/Dot-v0", "dot", ("cam_high", "wrist"))
    assert (env.max_steps, env.rate_hz) == (9, 10.0)
    assert env.action_low.tolist() == [-1, -1]
    assert env.action_high.tolist() == [1, 1]
    said = {env.reset(seed) for seed in range(20)}
    assert said == {"move right", "go right"}
    assert env.reset(3) == env.reset(3)
    views = env.look()
    assert views["cam_high"].shape == views["wrist"].shape == (8, 8, 3)
    np.testing.assert_array_equal(views["cam_high"], views["wrist"])  # colours first became colours last
    env.reset(0)
    place = env._env.unwrapped.place
    results = [env.step(RIGHT * 9) for _ in range(int(5 - place))]  # clipped to 1
    assert [result.success for result in results] == [False] * (len(results) - 1) + [True]
    assert results[-1].done
    with pytest.raises(SimulationError, match="step must come in a running episode"):
        env.step(RIGHT)
    env.close()


def test_a_rendered_view_is_rendered_only_where_somebody_looks():
    env = dot(views={"cam_high": "render"})
    env.reset(0)
    for _ in range(2):
        env.step(np.zeros(2))
    assert env._env.unwrapped.renders == 0
    assert env.look()["cam_high"].shape == (8, 8, 3)
    assert env._env.unwrapped.renders == 1


def test_success_and_instruction_lie_where_they_are_said_to():
    env = dot(sentences=(), instruction="info.task.sentence", success="reward", success_from=4.0)
    said = env.reset(0)
    place = int(env._env.unwrapped.place)
    assert said == f"go on from {place}"
    results = [env.step(RIGHT) for _ in range(4 - place)]
    assert [result.success for result in results] == [False] * (3 - place) + [True]
    late = dot(settings={"late": True})
    late.reset(0)
    assert [late.step(RIGHT).success for _ in range(5 - place)][-1]
    late.reset(0)
    for _ in range(8):
        late.step(np.zeros(2))  # not there yet counts as not yet
    with pytest.raises(SettingError, match=r"success must be the place of something, got 'is_success' in \[\]"):
        late.step(np.zeros(2))


def test_the_robot_measures_itself_where_it_is_said_to():
    env = dot(state="info.arm")
    with pytest.raises(SimulationError, match="robot_state must come after reset"):
        env.robot_state()
    env.reset(0)
    with pytest.raises(SettingError, match="state must be the place of something, got 'arm'"):
        env.robot_state()
    env._seen["info"] = {"arm": [[1, 2], [3, 4]]}
    assert robot_state(env).tolist() == [1.0, 2.0, 3.0, 4.0]
    assert robot_state(dot()) is None


def test_an_episode_ends_after_its_limit():
    env = dot(max_steps=2)
    env.reset(0)
    assert [env.step(np.zeros(2)).done for _ in range(2)] == [False, True]


def test_it_is_evaluated_in_workers_as_any_other():
    make = partial(GymnasiumEnv, **SETTINGS)
    assert own_task(make).name == "toy/Dot-v0"
    here = evaluate(Right(), make, evaluation_seeds(5), record=1)
    with env_workers(2) as workers:
        there = evaluate(Right(), make, evaluation_seeds(5), workers=workers, record=1)
    assert here == there
    assert all(result.success for result in here)
    assert here[0].pictures.shape == (here[0].steps + 1, 8, 16, 3)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"id": "toy/Dash-v0"}, SettingError, "id must be a registered environment, got 'toy/Dash-v0'"),
        ({"id": "no_such_module:toy/Dot-v0"}, SettingError, "id must be a registered environment"),
        ({"id": "toy_gymnasium:toy/Endless-v0"}, SettingError, "max_steps must be at least 1 where"),
        ({"views": {}}, SettingError, "views must name at least one picture"),
        ({"sentences": []}, SettingError, "sentences or instruction must be given"),
        ({"instruction": "info.task"}, SettingError, "sentences or instruction must be given, and not both"),
        ({"rate_hz": 0}, SettingError, "rate_hz must be above 0 and finite, got 0"),
        ({"views": {"cam": ""}}, SettingError, r"views\['cam'\] must not be empty, got ''"),
        ({"settings": {"speed": 2}}, SettingError, r"settings must be arguments of toy.*, got {'speed': 2} \(.*Look"),
        ({"settings": {"discrete": True}}, SettingError, "must be one bounded row of numbers, got Discrete"),
    ],
)
def test_wrong_settings_are_named(changes, error, text):
    with pytest.raises(error, match=text):
        dot(**changes)


def test_wrong_places_and_actions_are_named():
    env = dot(views={"cam_high": "observation.images.left"})
    with pytest.raises(SimulationError, match="look must come after reset"):
        env.look()
    env.reset(0)
    with pytest.raises(SettingError, match=r"views\['cam_high'\] must be the place of something, got 'images.left' in"):
        env.look()
    with pytest.raises(ShapeError, match=r"action must have the shape \(2,\)"):
        env.step(np.zeros(3))
    with pytest.raises(SettingError, match="action must be finite"):
        env.step(np.full(2, np.nan))
    for place, error, text in (("info.grey", ShapeError, "must have the shape"), ("info.bright", DtypeError, "uint8")):
        wrong = dot(views={"cam_high": place})
        wrong.reset(0)
        wrong._seen["info"] = {"grey": np.zeros((8, 8), np.uint8), "bright": np.zeros((8, 8, 3))}
        with pytest.raises(error, match=text):
            wrong.look()


class Line(LineEnv):
    def look(self):
        frame = np.zeros((4, 6, 3), dtype=np.uint8)
        frame[0] = int(100 * abs(self.position)) % 256
        return {"cam_high": frame}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_policy_env_is_a_gymnasium_environment():
    env = AsGymnasium(Line())
    check_env(env, skip_render_check=True)
    observation, info = env.reset(seed=7)
    assert (info["instruction"], info["is_success"]) == ("go to one, number 7", False)
    assert observation["cam_high"].shape == (4, 6, 3)
    _, reward, terminated, truncated, _ = env.step(np.array([1.0, 0.0]))
    assert (reward, terminated, truncated) == (1.0, True, False)
    env.reset(seed=7)
    for _ in range(6):
        _, reward, terminated, truncated, info = env.step(np.zeros(2))
    assert (reward, terminated, truncated, info["is_success"]) == (0.0, False, True, False)
    assert env.render().shape == (4, 6, 3)


def test_there_and_back_again():
    back = GymnasiumEnv(**SETTINGS)
    env = AsGymnasium(back)
    observation, info = env.reset(seed=1)
    assert info["instruction"] == back.instruction
    np.testing.assert_array_equal(observation["wrist"], back.look()["wrist"])
    env.close()
