"""A policy that reads the robot's state: in the prompt, in the head, or not at all."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vla_kit.actions import ActionSpace, ChannelGroup, MaskedActions, QuantileNormalizer, QuantileStats
from vla_kit.backbones.tiny import tiny_qwen3_vl
from vla_kit.embodiment import EmbodimentPrompter, EmbodimentSpec
from vla_kit.errors import DataError, MissingStatisticsError, SettingError, ShapeError
from vla_kit.flow import Euler
from vla_kit.heads import DiTHead, StateTokenHead
from vla_kit.policy import Policy, PolicyObservation, predict_actions
from vla_kit.policy.observation import state_tensor


def joints(count):
    return ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad", count=count)])


def robot(name, state_space):
    return EmbodimentSpec(
        name, robot_tag=name, rate_hz=10, chunk_size=4, action_space=joints(2), arms=None, state_space=state_space
    )


ROBOTS = [robot("arm", joints(3)), robot("cart", None)]
STATE = np.array([0.5, 1.0, -2.0])


def normalizer(size, *names):
    stats = QuantileStats(q01=torch.full((size,), -2.0), q99=torch.full((size,), 2.0))
    return QuantileNormalizer(dict.fromkeys(names, stats), spaces=dict.fromkeys(names, joints(size)))


def open_policy(variant, **changes):
    torch.manual_seed(0)
    head = DiTHead(context_width=32, channels=4, width=16, depth=2, num_heads=2, mlp_hidden=16)
    wrapped = StateTokenHead(head, state_channels=6) if variant == "token" else head
    for parameter in wrapped.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    parts = {
        "backbone": tiny_qwen3_vl(
            corpus=["push the block"], view_tags=["cam"], image_size=32, hidden=32, vision_layers=1, text_layers=1
        ),
        "head": wrapped,
        "prompter": EmbodimentPrompter(ROBOTS, state_bins=256 if variant == "prompt" else None),
        "normalizer": normalizer(2, "arm", "cart"),
        "state_normalizer": None if variant == "none" else normalizer(3, "arm"),
        "solver": Euler(steps=2),
        "channels": 4,
    }
    return Policy(**(parts | changes))


def seen(name="arm", state=STATE):
    return PolicyObservation(embodiment=name, instruction="push the block", views={}, state=state)


def act(policy, *observations):
    return policy.act(observations, generator=[torch.Generator().manual_seed(3) for _ in observations])


@pytest.mark.parametrize("variant", ["prompt", "token"])
def test_the_state_changes_the_answer_of_its_robot_alone(variant):
    policy = open_policy(variant)
    arm, cart = act(policy, seen(), seen("cart"))
    moved_arm, moved_cart = act(policy, seen(state=STATE + 0.5), seen("cart", STATE + 0.5))
    assert not np.allclose(arm, moved_arm, atol=1e-5)
    np.testing.assert_allclose(cart, moved_cart, rtol=0, atol=1e-5)


def test_a_policy_without_states_does_not_look_at_them():
    policy = open_policy("none")
    for state in (None, STATE, np.full(7, np.nan)):
        assert np.array_equal(act(policy, seen(state=state))[0], act(policy, seen(state=None))[0])


@pytest.mark.parametrize("variant", ["prompt", "token"])
def test_alone_as_in_a_batch_where_another_robot_has_no_state(variant):
    policy = open_policy(variant)
    together = act(policy, seen("cart", None), seen(), seen("cart", None))
    for row, one in ((0, seen("cart", None)), (1, seen())):
        np.testing.assert_allclose(together[row], act(policy, one)[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("variant", ["prompt", "token"])
def test_a_robot_without_a_state_gets_what_it_gets_from_a_policy_without_states(variant):
    policy, plain = open_policy(variant), open_policy("none")
    weights = policy.head.head if variant == "token" else policy.head
    plain.head.load_state_dict(weights.state_dict())
    plain.backbone.load_state_dict(policy.backbone.state_dict())
    np.testing.assert_allclose(act(policy, seen("cart"))[0], act(plain, seen("cart"))[0], rtol=0, atol=1e-5)


def test_padding_of_the_state_changes_nothing():
    policy = open_policy("token")
    states = policy.states(["arm", "cart"], [torch.from_numpy(STATE), None])
    answers = []
    for padding in (0.0, torch.nan, torch.inf):
        poisoned = MaskedActions(torch.where(states.mask, states.values, padding), states.mask)
        native = predict_actions(
            policy.backbone.prepare([_text("push"), _text("push")]),
            policy.mask(["arm", "cart"]),
            ["arm", "cart"],
            backbone=policy.backbone,
            head=policy.head,
            normalizer=policy.normalizer,
            solver=policy.solver,
            state=poisoned,
            generator=torch.Generator().manual_seed(0),
        )
        answers.append(native.values)
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])


def _text(prompt):
    from vla_kit.protocols import Observation

    return Observation(prompt=prompt, views={})


@pytest.mark.parametrize("state", [STATE.tolist(), STATE.astype(np.float16), STATE.astype(np.float32)[::1]])
def test_states_come_in_any_precision(state):
    policy = open_policy("prompt")
    expected = act(policy, seen())[0]
    observation = seen(state=np.asarray(state))
    assert np.array_equal(act(policy, observation)[0], expected)
    assert np.array_equal(act(policy, replace(observation, state=torch.tensor(STATE)))[0], expected)


def test_whole_numbers_are_numbers():
    assert state_tensor(np.array([1, 2])).dtype == torch.float32
    assert state_tensor(None) is None


@pytest.mark.parametrize("variant", ["prompt", "token"])
def test_states_that_do_not_fit_are_refused(variant):
    policy = open_policy(variant)
    for state, error, text in (
        (None, DataError, "state of 'arm' must be given to a policy that reads states, got none"),
        (STATE[:2], ShapeError, r"state of 'arm' must have the shape \(3,\), got \(2,\)"),
        (STATE * np.nan, DataError, "state of 'arm' must be finite"),
    ):
        with pytest.raises(error, match=text):
            act(policy, seen("cart"), seen(state=state))
    with pytest.raises(MissingStatisticsError, match="state of 'arm' must have statistics, got none"):
        act(open_policy(variant, state_normalizer=QuantileNormalizer()), seen())


def test_parts_that_contradict_each_other_are_refused():
    for variant in ("prompt", "token"):
        with pytest.raises(SettingError, match="state_normalizer must be given where the prompter writes states"):
            open_policy(variant, state_normalizer=None)
    with pytest.raises(SettingError, match="state_normalizer must be left out where nothing reads states"):
        open_policy("none", state_normalizer=normalizer(3, "arm"))
