import subprocess
import sys

import numpy as np
import pytest

from vla_kit.envs import PolicyEnv, SimulationError, StepResult
from vla_kit.envs.protocol import check_action, check_frame, check_seed
from vla_kit.errors import SettingError, ShapeError, VLAKitError


def test_check_action_returns_a_float64_copy():
    given = np.array([1, 2], dtype=np.float32)
    checked = check_action(given, size=2)
    given[0] = 9
    assert checked.dtype == np.float64
    assert checked.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("action", [np.zeros(3), np.zeros((1, 4)), np.float64(0.0)])
def test_check_action_names_the_shape(action):
    with pytest.raises(ShapeError, match=r"action must have the shape \(4,\), got"):
        check_action(action, size=4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_check_action_refuses_what_is_not_finite(value):
    with pytest.raises(SettingError, match="action must be finite"):
        check_action(np.array([0.0, value]), size=2)


@pytest.mark.parametrize("level", [0, 97, 255])
def test_check_frame_refuses_constant_pictures_of_any_level(level):
    with pytest.raises(SimulationError, match="frame of view 'cam_high' must show a scene"):
        check_frame(np.full((8, 8, 3), level, dtype=np.uint8), tag="cam_high")


def test_check_frame_refuses_an_almost_constant_picture():
    frame = np.zeros((32, 32, 3), dtype=np.uint8)
    frame[0, 0] = 20  # std 0.6
    with pytest.raises(SimulationError, match="constant picture"):
        check_frame(frame, tag="cam_high")


def test_check_frame_passes_a_scene_through():
    frame = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    assert check_frame(frame, tag="cam_high") is frame


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_check_seed_names_the_range(seed):
    with pytest.raises(SettingError, match="seed must lie in"):
        check_seed(seed)


def test_check_seed_gives_a_plain_int():
    assert type(check_seed(np.int64(2**32 - 1))) is int


def test_simulation_error_is_ours_and_a_runtime_error():
    assert issubclass(SimulationError, VLAKitError)
    assert issubclass(SimulationError, RuntimeError)


def test_step_result_is_frozen():
    with pytest.raises(AttributeError):
        StepResult(success=True, done=True).success = False


def test_protocol_tells_a_policy_nothing_of_the_state():
    offered = {name for name in vars(PolicyEnv) if not name.startswith("_")}
    assert offered == {
        *("task", "embodiment", "view_tags", "max_steps", "rate_hz", "action_low", "action_high", "instruction"),
        *("reset", "look", "step", "close"),
    }


def test_the_folder_is_light_and_leaves_the_environment_alone():
    code = (
        "import os, sys\n"
        "for name in ('mujoco', 'metaworld', 'gymnasium', 'gym_aloha', 'dm_control', 'lightning', 'transformers'):\n"
        "    sys.modules[name] = None\n"
        "os.environ.pop('MUJOCO_GL', None)\n"
        "before = dict(os.environ)\n"
        "import vla_kit.envs\n"
        "assert dict(os.environ) == before\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
