import subprocess
import sys

import pytest
from jsonargparse import ArgumentParser

from vla_kit.envs import TASKS, PolicyEnv, make_env, make_expert
from vla_kit.errors import SettingError

pytest.importorskip("vla_kit.envs.metaworld", exc_type=ImportError)
pytest.importorskip("vla_kit.envs.aloha", exc_type=ImportError)


@pytest.mark.parametrize("name", ["metaworld/faucet-close", "aloha/transfer-cube"])
def test_made_by_name_with_settings(name):
    env = make_env(name, image_size=32, frame_skip=2, max_steps=3)
    try:
        assert env.task == name
        assert env.embodiment == TASKS[name].embodiment
        assert env.max_steps == 3
        assert env.instruction == ""
        env.reset(0)
        assert {tag: image.shape for tag, image in env.look().items()} == {"cam_high": (32, 32, 3)}
        expert = make_expert(env)
        expert.reset()
        assert expert.act().shape == env.action_low.shape
    finally:
        env.close()


@pytest.mark.parametrize(
    "arguments",
    [
        {"class_path": "vla_kit.envs.metaworld.MetaWorldEnv", "init_args": {"task": "reach", "max_steps": 7}},
        {"class_path": "vla_kit.envs.aloha.AlohaEnv", "init_args": {"max_steps": 7}},
        {"class_path": "vla_kit.envs.make_env", "init_args": {"name": "metaworld/reach", "max_steps": 7}},
    ],
)
def test_yaml_may_name_any_of_them_where_a_policy_env_is_wanted(arguments):
    parser = ArgumentParser()
    parser.add_argument("--env", type=PolicyEnv)
    env = parser.instantiate(parser.parse_object({"env": arguments})).env
    assert env.max_steps == 7
    env.close()


def test_unknown_names_are_refused_before_any_simulator_is_imported():
    with pytest.raises(SettingError, match="name must be one of"):
        make_env("metaworld/fly-away")


def test_an_expert_for_a_foreign_environment_is_refused():
    class Foreign:
        task = "elsewhere/task"

    with pytest.raises(SettingError, match="got 'elsewhere/task'"):
        make_expert(Foreign())


@pytest.mark.parametrize(
    ("blocked", "name", "error", "text"),
    [
        ("metaworld", "metaworld/reach", "MissingExtraError", "pip install 'vla-kit[metaworld]'"),
        ("mujoco", "metaworld/reach", "MissingExtraError", "mujoco is not installed"),
        ("gym_aloha", "aloha/transfer-cube", "MissingExtraError", "pip install 'vla-kit[aloha]'"),
        ("mujoco.egl", "metaworld/reach", "SimulationError", "apt-get install -y libegl1 libegl-mesa0 libgl1"),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(blocked, name, error, text):
    code = (
        "import os, sys\n"
        "os.environ.pop('MUJOCO_GL', None)\n"
        f"sys.modules[{blocked!r}] = None\n"
        "from vla_kit.envs import make_env\n"
        f"make_env({name!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert error in done.stderr.splitlines()[-1]
    assert text in done.stderr.splitlines()[-1]


def test_a_mujoco_imported_before_without_a_display_is_an_error_and_no_crash():
    code = (
        "import os\n"
        "for name in ('MUJOCO_GL', 'DISPLAY', 'WAYLAND_DISPLAY'): os.environ.pop(name, None)\n"
        "import mujoco\n"
        "from vla_kit.envs import make_env\n"
        "env = make_env('metaworld/reach')\n"
        "env.reset(0); env.look()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "export MUJOCO_GL=egl before starting Python" in done.stderr.splitlines()[-1]


def test_a_forgotten_close_leaves_no_noise_at_exit():
    code = (
        "from vla_kit.envs import make_env\n"
        "envs = [make_env('metaworld/reach') for _ in range(2)]\n"
        "for env in envs: env.reset(0); env.look()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Exception ignored" not in done.stderr


def test_a_renderer_chosen_by_the_user_is_kept():
    code = (
        "import os\n"
        "os.environ['MUJOCO_GL'] = 'disabled'\n"
        "from vla_kit.envs import make_env\n"
        "env = make_env('metaworld/reach')\n"
        "env.reset(0); env.step(env.action_low)\n"
        "assert os.environ['MUJOCO_GL'] == 'disabled'\n"
        "env.look()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "SimulationError: MUJOCO_GL must name a renderer that works here, got 'disabled'" in done.stderr
