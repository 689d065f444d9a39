import dataclasses

import pytest

from vla_kit.actions import ActionSpace, ChannelGroup
from vla_kit.embodiment import EmbodimentPrompter, EmbodimentSpec, preset
from vla_kit.errors import EmbodimentError, SettingError

ROBOT = EmbodimentSpec(
    "robot",
    robot_tag="Franka Panda",
    rate_hz=20.0,
    chunk_size=16,
    arms="single",
    action_space=ActionSpace(
        [
            ChannelGroup("position", kind="eef_position", reference="delta", unit="m", count=3),
            ChannelGroup("gripper", kind="gripper", reference="absolute", unit="0 or 1", normalized=False),
        ]
    ),
)
TASK = " Please predict the next 16 control actions to execute the following task: pick up the cup."


def prompt(instruction="pick up the cup", *, state_convention=False, chunk_size=None, **changes):
    spec = dataclasses.replace(ROBOT, **changes)
    return EmbodimentPrompter([spec], state_convention=state_convention)("robot", instruction, chunk_size)


@pytest.mark.parametrize(
    ("changes", "robot"),
    [
        ({}, "Franka Panda with single arm"),
        ({"arms": "dual"}, "Franka Panda with dual arms"),
        ({"arms": "dual", "waist": True}, "Franka Panda with dual arms, waist"),
        ({"arms": "dual", "mobile_base": True}, "Franka Panda with dual arms, and mobile base"),
        ({"arms": "dual", "waist": True, "mobile_base": True}, "Franka Panda with dual arms, waist, and mobile base"),
        ({"arms": None}, "Franka Panda"),
        ({"arms": None, "mobile_base": True}, "Franka Panda with mobile base"),
        ({"arms": None, "waist": True, "mobile_base": True}, "Franka Panda with waist and mobile base"),
    ],
)
def test_the_template_word_for_word(changes, robot):
    assert prompt(**changes) == f"The robot is {robot}. The control frequency is 20 Hz.{TASK}"


@pytest.mark.parametrize(
    ("rate_hz", "text"),
    [(20.0, "20 Hz."), (12.5, "12.5 Hz."), (29.97, "29.97 Hz."), (1000.0, "1000 Hz."), (0.5, "0.5 Hz.")],
)
def test_the_rate_is_printed_short(rate_hz, text):
    assert f"The control frequency is {text} Please" in prompt(rate_hz=rate_hz)


@pytest.mark.parametrize(
    ("instruction", "end"),
    [
        ("pick up the cup", "pick up the cup."),
        ("pick up the cup.", "pick up the cup."),
        ("  pick up\tthe \n cup . \n", "pick up the cup ."),
        ("Pick up the cup!", "Pick up the cup!"),
        ("where is the cup?", "where is the cup?"),
        ("find the sign 'exit.'", "find the sign 'exit.'"),
        ("find the sign 'exit'", "find the sign 'exit'."),
        ("pick up the cup,", "pick up the cup."),
        ("pick up the cup; ", "pick up the cup."),
        ("把杯子拿起来。", "把杯子拿起来。"),
        ("wait...", "wait..."),
        ("move 2.5 cm", "move 2.5 cm."),
    ],
)
def test_instructions_end_with_one_mark(instruction, end):
    assert prompt(instruction).endswith(f"the following task: {end}")


@pytest.mark.parametrize("instruction", ["", " \n", "...", "?!"])
def test_an_instruction_without_words_is_refused(instruction):
    with pytest.raises(SettingError, match=r"instruction must hold a word, got "):
        prompt(instruction)


def test_a_call_may_announce_another_length():
    assert "the next 350 control actions" in prompt(chunk_size=350)
    with pytest.raises(SettingError, match="chunk_size must be at least 1, got 0"):
        prompt(chunk_size=0)


def test_the_convention_is_written_from_the_action_space():
    assert prompt(state_convention=True) == (
        "The robot is Franka Panda with single arm. The control frequency is 20 Hz. The control convention is "
        f"3 delta end-effector position channels [m] and 1 absolute gripper channel [0 or 1, not normalized].{TASK}"
    )


def test_the_convention_of_the_spec_comes_first():
    text = prompt(state_convention=True, control_convention="delta poses against the first frame. ")
    assert "20 Hz. The control convention is delta poses against the first frame. Please" in text
    assert "convention" not in prompt(control_convention="delta poses")


def test_two_action_types_of_one_robot_differ_only_with_the_convention():
    specs = [preset("franka_eef"), preset("franka_joint")]
    plain, stated = EmbodimentPrompter(specs), EmbodimentPrompter(specs, state_convention=True)
    assert plain("franka_eef", "go") == plain("franka_joint", "go")
    assert stated("franka_eef", "go") != stated("franka_joint", "go")


def test_navigation_states_its_convention_and_counts_waypoints():
    assert EmbodimentPrompter([preset("navigation")])("navigation", "go to the door") == (
        "The robot is navigation agent with mobile base. The control frequency is 2 Hz. The control convention is "
        "waypoints (dx, dy, dtheta) in the ground plane from the current pose, in m and rad. "
        "Please predict the next 8 waypoints to execute the following task: go to the door."
    )


def test_lookup_and_its_errors():
    prompter = EmbodimentPrompter([ROBOT, preset("widowx")])
    assert prompter.names == ("robot", "widowx")
    assert prompter.spec("robot") is ROBOT
    with pytest.raises(EmbodimentError, match=r"embodiment must be one of \['robot', 'widowx'\], got 'leg'"):
        prompter("leg", "walk")
    with pytest.raises(SettingError, match="at least one EmbodimentSpec"):
        EmbodimentPrompter([])
    with pytest.raises(SettingError, match=r"specs must have a name each, got \['robot'\] twice"):
        EmbodimentPrompter([ROBOT, ROBOT])
