"""A robot is a few lines of YAML."""

import subprocess
import sys

import jsonargparse
import pytest

from vla_kit.actions import QuantileNormalizer
from vla_kit.embodiment import EmbodimentPrompter, preset

ROBOT = """
        name: my_arm
        robot_tag: UR5e
        rate_hz: 10
        chunk_size: 8
        arms: single
        action_space:
          groups:
          - {name: joint, kind: joint, reference: absolute, unit: rad, count: 6}
          - {name: gripper, kind: gripper, reference: absolute, unit: "0 or 1", normalized: false}
"""


def prompter_yaml(robot):
    return f"""
prompter:
  class_path: vla_kit.embodiment.EmbodimentPrompter
  init_args:
    specs:
      -{robot.removeprefix(chr(10))[7:]}
"""


def read(text, tmp_path, kind=EmbodimentPrompter, key="prompter"):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(kind, key)
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes
    return instantiate(parser.parse_args(["--config", str(file)]))[key]


def test_plain_form(tmp_path):
    prompter = read(prompter_yaml(ROBOT), tmp_path)
    spec = prompter.spec("my_arm")
    assert spec.action_space.names[-1] == "gripper"
    assert spec.action_space.normalized.tolist() == [True] * 6 + [False]
    assert prompter("my_arm", "wave").startswith(
        "The robot is UR5e with single arm. The control frequency is 10 Hz. Pl"
    )


def test_a_state_is_one_more_list_of_channels(tmp_path):
    state = """        state_space:
          groups: [{name: joint, kind: joint, reference: absolute, unit: rad, count: 6}]
"""
    text = prompter_yaml(ROBOT.removesuffix("\n") + "\n" + state).rstrip() + "\n    state_bins: 256\n"
    prompter = read(text, tmp_path)
    assert (prompter.spec("my_arm").state_space.size, prompter.state_bins) == (6, 256)
    assert read(prompter_yaml(ROBOT), tmp_path).spec("my_arm").state_space is None


def test_class_path_and_preset_form(tmp_path):
    text = """
prompter:
  class_path: vla_kit.embodiment.EmbodimentPrompter
  init_args:
    state_convention: true
    specs:
    - class_path: vla_kit.embodiment.presets.preset
      init_args: {name: widowx, rate_hz: 7.5}
    - class_path: vla_kit.embodiment.EmbodimentSpec
      init_args:
        name: base
        robot_tag: LoCoBot
        rate_hz: 2.0
        chunk_size: 8
        arms: null
        mobile_base: true
        task: navigation
        action_space:
          class_path: vla_kit.actions.ActionSpace
          init_args:
            groups: [{name: step, kind: waypoint, reference: delta, unit: m, count: 2}]
"""
    prompter = read(text, tmp_path)
    assert prompter.spec("widowx") == preset("widowx", rate_hz=7.5)
    assert "2 delta waypoint channels [m]" in prompter("base", "go")


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("rate_hz: 10", "rate: 10", "rate"),
        ("count: 6", "number: 6", "number"),
        ("kind: joint", "kind: leg", "leg"),
        ("chunk_size: 8", "chunk_size: 0", "chunk_size must be at least 1"),
    ],
)
def test_mistakes_are_refused(old, new, text, tmp_path):
    with pytest.raises((jsonargparse.ArgumentError, ValueError), match=text):
        read(prompter_yaml(ROBOT.replace(old, new)), tmp_path)


COMMAND = """
import jsonargparse
from vla_kit.embodiment import EmbodimentSpec

def tell(spec: EmbodimentSpec) -> int:
    return spec.action_space.size

print(jsonargparse.auto_cli(tell))
"""


def test_the_spec_is_a_setting_of_a_command_line():
    # In a process of its own: importing vla_kit.training lets the parser take functions such as `preset` for a spec.
    space = '{"groups": [{"name": "joint", "kind": "joint", "reference": "absolute", "unit": "rad", "count": 6}]}'
    arguments = ["--spec.name=my_arm", "--spec.robot_tag=UR5e", "--spec.rate_hz=10", "--spec.chunk_size=8"]
    arguments += ["--spec.arms=single", f"--spec.action_space={space}"]

    def run(*arguments: str) -> str:
        done = subprocess.run([sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True, check=True)
        return done.stdout

    assert run(*arguments).split() == ["6"]
    assert "Control frequency of the data set" in run("--help")


def test_an_empty_normalizer_is_built_from_yaml(tmp_path):
    text = "normalizer:\n  class_path: vla_kit.actions.QuantileNormalizer\n"
    assert read(text, tmp_path, QuantileNormalizer, "normalizer").embodiments == ()
