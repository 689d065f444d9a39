import pytest
import torch

from vla_kit.actions import ActionSpace, Channel, ChannelGroup
from vla_kit.errors import SettingError


def arm(**changes):
    settings = {"kind": "eef_position", "reference": "delta", "unit": "m", "count": 3}
    return ChannelGroup("position", **{**settings, **changes})


GRIPPER = ChannelGroup("gripper", kind="gripper", reference="absolute", unit="0 closed, 1 open", normalized=False)


def test_groups_expand_in_order():
    space = ActionSpace([arm(), GRIPPER])
    assert space.names == ("position_0", "position_1", "position_2", "gripper")
    assert space.channels[3] == Channel(
        "gripper", kind="gripper", reference="absolute", unit="0 closed, 1 open", normalized=False
    )
    assert space.size == 4
    assert torch.equal(space.normalized, torch.tensor([True, True, True, False]))


def test_a_group_of_one_keeps_its_name():
    assert ActionSpace([arm(count=1)]).names == ("position",)


def test_equality_looks_at_channels_not_at_groups():
    split = [ChannelGroup(f"position_{i}", kind="eef_position", reference="delta", unit="m") for i in range(3)]
    together, apart = ActionSpace([arm()]), ActionSpace(split)
    assert together == apart
    assert hash(together) == hash(apart)
    assert together.fingerprint == apart.fingerprint
    assert together != "position"


@pytest.mark.parametrize(
    "change", [{"unit": "cm"}, {"reference": "absolute"}, {"kind": "base"}, {"normalized": False}, {"count": 4}]
)
def test_every_field_changes_equality_and_fingerprint(change):
    first, second = ActionSpace([arm()]), ActionSpace([arm(**change)])
    assert first != second
    assert first.fingerprint != second.fingerprint


def test_fingerprint_is_the_same_on_every_machine():
    assert ActionSpace([arm(), GRIPPER]).fingerprint == "3f4780d8298646d1"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"kind": "leg"}, "kind must be one of .*'eef_position'.*got 'leg'"),
        ({"reference": "relative"}, "reference must be one of .*'delta'.*got 'relative'"),
        ({"unit": " "}, "unit must hold a word"),
        ({"count": 0}, "count must be at least 1, got 0"),
    ],
)
@pytest.mark.usefixtures("shape_hook_off")
def test_group_errors(change, text):
    with pytest.raises(SettingError, match=text):
        arm(**change)


def test_space_errors():
    with pytest.raises(SettingError, match="at least one ChannelGroup"):
        ActionSpace([])
    with pytest.raises(SettingError, match=r"\['gripper'\] twice"):
        ActionSpace([GRIPPER, GRIPPER])
    with pytest.raises(SettingError, match="name must hold a word"):
        Channel("", kind="joint", reference="absolute", unit="rad")
