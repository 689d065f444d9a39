"""Native states of mixed robots, as a model reads them."""

import math

import pytest
import torch

from vla_kit.actions import ActionSpace, ChannelGroup, QuantileNormalizer, QuantileStats
from vla_kit.embodiment import EmbodimentPrompter, EmbodimentSpec, StateScaler, write_prompts
from vla_kit.errors import (
    DataError,
    EmbodimentError,
    MissingStatisticsError,
    SettingError,
    ShapeError,
    StatisticsError,
)


def joints(count, **settings):
    return ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad", count=count, **settings)])


def robot(name, state_space):
    return EmbodimentSpec(
        name, robot_tag=name, rate_hz=10, chunk_size=4, action_space=joints(2), arms=None, state_space=state_space
    )


ARM, CRANE, CART = robot("arm", joints(2)), robot("crane", joints(3, normalized=False)), robot("cart", None)
STATS = {
    "arm": QuantileStats(q01=torch.tensor([10.0, -1.0]), q99=torch.tensor([20.0, 1.0])),
    "crane": QuantileStats(q01=torch.zeros(3), q99=torch.ones(3)),
}
PROMPTER = EmbodimentPrompter([ARM, CRANE, CART], state_bins=256)
STATES = {"arm": torch.tensor([12.5, 9.0]), "crane": torch.tensor([5.0, 0.25, -1.0]), "cart": None}


def scaler(stats=STATS, channels=4):
    spaces = {name: PROMPTER.spec(name).state_space for name in stats}
    return StateScaler(QuantileNormalizer(stats, spaces=spaces), prompter=PROMPTER, channels=channels)


def test_each_robot_by_its_own_statistics_the_rest_is_padding():
    states = scaler()(["crane", "cart", "arm"], [STATES[name] for name in ("crane", "cart", "arm")])
    assert states.values[:, 0].tolist() == [[5.0, 0.25, -1.0, 0.0], [0.0] * 4, [-0.5, 1.0, 0.0, 0.0]]
    assert states.mask[:, 0].tolist() == [[True] * 3 + [False], [False] * 4, [True, True, False, False]]


@pytest.mark.parametrize("names", [["arm"], ["crane", "arm"], ["cart", "arm", "cart", "crane"], ["cart"]])
def test_alone_as_in_a_mixed_batch(names):
    scale = scaler()
    together = scale(names, [STATES[name] for name in names])
    for row, name in enumerate(names):
        alone = scale([name], [STATES[name]])
        assert torch.equal(together.values[row], alone.values[0])
        assert torch.equal(together.mask[row], alone.mask[0])


def test_a_robot_without_a_state_space_has_no_state_whatever_it_gives():
    given = scaler()(["cart"], [torch.tensor([math.nan])])
    assert not given.mask.any()
    assert torch.equal(given.values, torch.zeros(1, 1, 4))


def test_precision_of_the_model_does_not_matter():
    normalizer = scaler().normalizer.to(torch.bfloat16)
    states = StateScaler(normalizer, prompter=PROMPTER, channels=2)(["arm"], [STATES["arm"].double()])
    assert states.values.dtype == torch.float32
    assert states.values.tolist() == [[[-0.5, 1.0]]]


def test_prompts_hold_the_states_of_the_robots_that_have_one():
    names = ["cart", "arm"]
    states = scaler()(names, [STATES[name] for name in names])
    first, second = write_prompts(PROMPTER, names, ["go", "lift it"], states=states, chunk_sizes=[3, 5])
    assert first.endswith("the next 3 control actions to execute the following task: go.")
    assert second.endswith("the next 5 control actions to execute the following task: state: [64, 255] lift it.")
    assert write_prompts(PROMPTER, names, ["go", "go"]) == [PROMPTER(name, "go") for name in names]


@pytest.mark.parametrize(
    ("name", "state", "error", "text"),
    [
        ("arm", None, DataError, r"state of 'arm' must be given .* got none. Give \('joint_0', 'joint_1'\)"),
        ("arm", torch.zeros(3), ShapeError, r"state of 'arm' must have the shape \(2,\), got \(3,\)"),
        ("arm", torch.tensor([0.0, math.nan]), DataError, r"state of 'arm' must be finite, got \[0.0, nan\]"),
        ("arm", torch.tensor([0.0, math.inf]), DataError, r"state of 'arm' must be finite"),
        ("boat", torch.zeros(2), EmbodimentError, "'boat'"),
    ],
)
def test_states_that_do_not_fit_are_refused_by_name(name, state, error, text):
    with pytest.raises(error, match=text):
        scaler()(["crane", name], [STATES["crane"], state])


def test_statistics_that_are_missing_or_of_another_state_are_refused():
    with pytest.raises(MissingStatisticsError, match="state of 'arm' must have statistics, got none"):
        scaler({"crane": STATS["crane"]})(["arm"], [STATES["arm"]])
    other = StateScaler(QuantileNormalizer({"arm": STATS["crane"]}, spaces={"arm": joints(3)}), prompter=PROMPTER)
    with pytest.raises(StatisticsError, match=r"the state of 'arm' must have the 2 channels .* got 3"):
        other(["arm"], [STATES["arm"]])


def test_too_narrow_a_width_is_refused():
    with pytest.raises(ShapeError, match="channels"):
        scaler(channels=2)(["crane"], [STATES["crane"]])
    with pytest.raises(SettingError, match="channels must be at least 1, got 0"):
        scaler(channels=0)
