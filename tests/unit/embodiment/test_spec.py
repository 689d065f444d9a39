import math

import pytest

from vla_kit.actions import ActionSpace, ChannelGroup
from vla_kit.embodiment import EmbodimentSpec
from vla_kit.errors import SettingError

SPACE = ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad", count=6)])


def make(name="robot", **changes):
    settings = {"robot_tag": "Robot", "rate_hz": 10.0, "chunk_size": 16, "action_space": SPACE, "arms": "single"}
    return EmbodimentSpec(name, **{**settings, **changes})


def test_equal_specs_are_equal_and_hashable():
    assert make() == make()
    assert len({make(), make(), make(waist=True)}) == 2


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": ""}, "name must hold a word, got ''"),
        ({"robot_tag": " "}, "robot_tag must hold a word, got ' '"),
        ({"rate_hz": 0.0}, r"rate_hz must be above 0 and finite, got 0\.0"),
        ({"rate_hz": math.nan}, "rate_hz must be above 0 and finite, got nan"),
        ({"rate_hz": math.inf}, "rate_hz must be above 0 and finite, got inf"),
        ({"chunk_size": 0}, "chunk_size must be at least 1, got 0"),
        ({"arms": "three"}, r"arms must be one of \('single', 'dual'\) or None, got 'three'"),
        ({"task": "driving"}, r"task must be one of \('manipulation', 'navigation'\), got 'driving'"),
        ({"control_convention": ""}, "control_convention must hold words, got ''"),
        (
            {
                "state_space": ActionSpace(
                    [ChannelGroup("x", kind="eef_position", reference="delta", unit="m", count=2)]
                )
            },
            r"state_space must hold absolute channels, got the displacements \['x_0', 'x_1'\]",
        ),
    ],
)
@pytest.mark.usefixtures("shape_hook_off")
def test_errors(change, text):
    with pytest.raises(SettingError, match=text):
        make(**change)
