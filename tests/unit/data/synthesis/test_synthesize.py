import json
from functools import partial

import numpy as np
import pytest

pytest.importorskip("mujoco")
pytest.importorskip("ruckig")

from vla_kit.data.readers.lerobot import open_lerobot
from vla_kit.data.synthesis import synthesize
from vla_kit.data.synthesis.arm import Arm, find_arm
from vla_kit.data.synthesis.arm_model import ArmModel
from vla_kit.errors import DataError, MissingExtraError, SettingError

try:
    find_arm("panda")
except MissingExtraError as error:
    pytest.skip(str(error), allow_module_level=True)


def test_a_corpus_is_a_lerobot_set_per_robot_with_parts_as_episodes(tmp_path):
    synthesize(str(tmp_path / "corpus"), robots=["panda", "ur5"], templates=["push"], episodes=2)
    assert sorted(path.name for path in (tmp_path / "corpus").iterdir()) == ["panda", "ur5"]
    source = open_lerobot(str(tmp_path / "corpus" / "panda"))
    assert source.rate_hz == 50
    assert not source.cameras
    assert len(source.lengths) == 2 * (1 + 2)
    assert source.lengths[0] == source.lengths[1] + source.lengths[2]
    assert source.columns["action"].size == 8
    np.testing.assert_array_equal(source.column(1, "action"), source.column(0, "action")[: source.lengths[1]])
    assert source.instruction_at(1, 0).startswith("reach behind the ")
    assert source.instruction_at(2, 0).startswith("push the ")
    assert " cm " in source.instruction_at(0, 0)
    assert source.episode(3).seed == 1
    info = json.loads((tmp_path / "corpus" / "panda" / "meta" / "info.json").read_text())
    assert info["robot_type"] == "panda"
    assert info["features"]["observation.eef_pose"]["names"] == ["x", "y", "z", "qx", "qy", "qz", "qw"]


def test_sentences_of_parts_can_go_to_the_frames(tmp_path):
    synthesize(str(tmp_path / "corpus"), robots=["panda"], templates=["push"], episodes=1, segments="frames")
    source = open_lerobot(str(tmp_path / "corpus" / "panda"))
    part = source.column(0, "part_index").ravel()
    said = [source.instruction_at(0, frame) for frame in (0, len(part) - 1)]
    assert said[0].startswith("reach behind")
    assert said[1].startswith("push")
    assert [part[0], part[-1]] == [0, 1]


def test_two_workers_write_what_one_writes_and_later_numbers_do_not_need_earlier_ones(tmp_path):
    write = partial(synthesize, robots=["panda"], templates=["push", "pull"], segments="none")
    write(str(tmp_path / "one"), episodes=18)
    write(str(tmp_path / "two"), episodes=18, workers=2)
    write(str(tmp_path / "late"), episodes=2, first=16)
    one, two, late = (open_lerobot(str(tmp_path / name / "panda")) for name in ("one", "two", "late"))
    np.testing.assert_array_equal(one.lengths, two.lengths)
    for episode in range(18):
        np.testing.assert_array_equal(one.column(episode, "action"), two.column(episode, "action"))
        assert one.instruction_at(episode, 0) == two.instruction_at(episode, 0)
    for episode in range(2):
        np.testing.assert_array_equal(late.column(episode, "action"), one.column(16 + episode, "action"))


def test_an_arm_can_come_from_a_file(tmp_path):
    (tmp_path / "arm.xml").write_text(_MJCF)
    (tmp_path / "arm.yaml").write_text(
        "name: gantry\nmodel: arm.xml\njoints: [x, y, z, yaw]\nhome: [0.3, 0, 0, 0]\nflange: hand\n"
        "tool_m: [0, 0, -0.05]\ntool_quaternion_wxyz: [0, 1, 0, 0]\nmax_velocity: [1, 1, 1, 2]\n"
        "max_acceleration: [3, 3, 3, 6]\nradius_m: [0.3, 0.6]\n"
    )
    synthesize(str(tmp_path / "corpus"), robots=[str(tmp_path / "arm.yaml")], episodes=6, segments="none")
    source = open_lerobot(str(tmp_path / "corpus" / "gantry"))
    assert len(source.lengths) == 6
    state, pose = source.column(0, "observation.state"), source.column(0, "observation.eef_pose")
    np.testing.assert_allclose(pose[:, :2], state[:, :2], atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"robots": ["r2d2"]}, "robots must be among"),
        ({"robots": ["missing.yaml"]}, "robots must name files that exist"),
        ({"robots": ["panda", "panda"]}, "different arms"),
        ({"templates": ["juggle"]}, "templates must be among"),
        ({"templates": []}, "templates must be among"),
        ({"episodes": 0}, "episodes must be at least 1"),
        ({"segments": "pages"}, "segments must be"),
    ],
)
def test_wrong_settings_write_nothing(tmp_path, settings, message):
    with pytest.raises(SettingError, match=message):
        synthesize(str(tmp_path / "corpus"), **settings)
    assert not list(tmp_path.iterdir())


def test_wrong_arms_are_refused(tmp_path):
    path = tmp_path / "arm.xml"
    path.write_text(_MJCF)
    make = partial(Arm, name="gantry", model=str(path), home=(0.3, 0.0, 0.0, 0.0), radius_m=(0.3, 0.6))
    joints, limits = ("x", "y", "z", "yaw"), (1.0,) * 4
    with pytest.raises(SettingError, match="max_acceleration must hold one number per joint"):
        make(joints=joints, flange="hand", max_acceleration=(1.0,))
    with pytest.raises(SettingError, match="max_velocity must be given"):
        ArmModel(make(joints=joints, flange="hand", max_acceleration=limits))
    with pytest.raises(SettingError, match="flange must be among"):
        ArmModel(make(joints=joints, flange="foot", max_acceleration=limits))
    with pytest.raises(SettingError, match="joints must be among"):
        ArmModel(make(joints=("a", "b", "c", "d"), flange="hand", max_acceleration=limits))
    path.write_text("<mujoco><nonsense/></mujoco>")
    with pytest.raises(DataError, match="URDF or MJCF"):
        ArmModel(make(joints=joints, flange="hand", max_acceleration=limits))


_MJCF = """
<mujoco><compiler angle="radian"/><worldbody><body name="carriage" pos="0 0 0.3">
  <joint name="x" type="slide" axis="1 0 0" range="-1 1" limited="true"/>
  <joint name="y" type="slide" axis="0 1 0" range="-1 1" limited="true"/>
  <geom type="box" size="0.02 0.02 0.02"/>
  <body name="hand" pos="0 0 -0.1">
    <joint name="z" type="slide" axis="0 0 1" range="-0.3 0.3" limited="true"/>
    <joint name="yaw" type="hinge" axis="0 0 1" range="-4 4" limited="true"/>
    <geom type="box" size="0.01 0.01 0.04"/>
  </body>
</body></worldbody></mujoco>
"""
