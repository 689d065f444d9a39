import pytest

from vla_kit.embodiment import PRESETS, EmbodimentPrompter, preset
from vla_kit.errors import EmbodimentError

TABLE_2 = {  # name -> arms, channels
    "widowx": ("single", 7),
    "google_robot": ("single", 7),
    "franka_eef": ("single", 7),
    "franka_joint": ("single", 8),
    "franka_dual_eef": ("dual", 14),
    "franka_dual_joint": ("dual", 16),
    "arx5": ("dual", 14),
    "fourier_gr1": ("dual", 14),
    "mobile_aloha_eef": ("dual", 14),
    "mobile_aloha_joint": ("dual", 14),
    "agibot_a2d_joint": ("dual", 16),
    "agibot_a2d_hand": ("dual", 26),
    "tienkung_joint": ("dual", 16),
    "tienkung_hand": ("dual", 26),
    "galaxea_r1": ("dual", 14),
    "airbot_mmk2": ("dual", 36),
    "human_hands": ("dual", 32),
    "human_hands_camera": ("dual", 32),
    "navigation": (None, 3),
    "metaworld_sawyer": ("single", 4),
    "aloha_transfer": ("dual", 14),
    "miniworld_agent": (None, 3),
    "libero_panda": ("single", 7),
}


def test_every_robot_of_the_paper_is_there():
    assert {name: (spec.arms, spec.action_space.size) for name, spec in PRESETS.items()} == TABLE_2
    assert all(name == spec.name for name, spec in PRESETS.items())
    assert max(spec.action_space.size for spec in PRESETS.values()) <= 64


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_prompts(name):
    assert PRESETS[name].robot_tag in EmbodimentPrompter([preset(name)])(name, "wave")


def test_action_types_follow_the_table():
    for name, kinds in {
        "franka_dual_eef": {"eef_position", "eef_rotation", "gripper"},
        "galaxea_r1": {"joint", "gripper"},
        "airbot_mmk2": {"joint", "hand"},
        "human_hands": {"eef_position", "eef_rotation", "hand"},
        "navigation": {"waypoint"},
    }.items():
        assert {channel.kind for channel in PRESETS[name].action_space.channels} == kinds


def test_demo_robots():
    sawyer, aloha = preset("metaworld_sawyer"), preset("aloha_transfer")
    assert (sawyer.robot_tag, sawyer.rate_hz, sawyer.chunk_size) == ("Sawyer", 20, 16)
    assert sawyer.action_space.normalized.tolist() == [True, True, True, False]
    assert (aloha.robot_tag, aloha.rate_hz, aloha.chunk_size) == ("ALOHA", 12.5, 16)
    assert aloha.action_space.normalized.all()
    assert aloha.action_space.names[6] == "left_gripper"
    assert aloha.action_space.names[13] == "right_gripper"


def test_a_data_set_brings_its_own_rate_and_chunk():
    spec = preset("widowx", rate_hz=12.5, chunk_size=4)
    assert (spec.rate_hz, spec.chunk_size) == (12.5, 4)
    assert PRESETS["widowx"].rate_hz == 5
    with pytest.raises(EmbodimentError, match=r"name must be one of \['agibot_a2d_hand'.*got 'leg'"):
        preset("leg")
    with pytest.raises(TypeError):
        PRESETS["widowx"] = spec


def test_only_the_robots_of_simulators_have_a_state():
    assert {name for name, spec in PRESETS.items() if spec.state_space is not None} == {
        "metaworld_sawyer",
        "aloha_transfer",
        "libero_panda",
    }
    assert preset("metaworld_sawyer").state_space.names == ("position_0", "position_1", "position_2", "gripper")
    assert preset("aloha_transfer").state_space == preset("aloha_transfer").action_space
    assert [channel.unit for channel in preset("libero_panda").state_space.channels] == [
        *["m"] * 3,
        *["rad, axis-angle"] * 3,
        *["m"] * 2,
    ]


def test_libero_moves_in_units_of_its_controller_and_closes_at_one():
    space = preset("libero_panda").action_space
    assert [channel.unit for channel in space.channels] == [
        *["5 cm at 1.0"] * 3,
        *["0.5 rad at 1.0"] * 3,
        "-1 open, 1 closed",
    ]
    assert space.normalized.tolist() == [True] * 6 + [False]
