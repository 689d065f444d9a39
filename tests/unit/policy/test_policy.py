import numpy as np
import pytest
import torch

from vla_kit.actions import ActionSpace, ChannelGroup, QuantileNormalizer, QuantileStats
from vla_kit.backbones.tiny import tiny_qwen3_vl
from vla_kit.embodiment import EmbodimentPrompter, EmbodimentSpec
from vla_kit.errors import EmbodimentError, MissingStatisticsError, SettingError, ShapeError
from vla_kit.flow import CleanPrefix, Euler, GuidedPrefix, HardPrefix
from vla_kit.heads import DiTHead
from vla_kit.policy import ChunkPrefix, Policy, PolicyObservation


def robot(name, size, chunk):
    space = ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad", count=size)])
    return EmbodimentSpec(name, robot_tag=name, rate_hz=10, chunk_size=chunk, action_space=space, arms="single")


ARM, CRANE = robot("arm", 2, 4), robot("crane", 3, 6)


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    head = DiTHead(context_width=32, channels=4, width=16, depth=2, num_heads=2, mlp_hidden=16)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    stats = {
        "arm": QuantileStats(q01=torch.tensor([10.0, -1.0]), q99=torch.tensor([20.0, 1.0])),
        "crane": QuantileStats(q01=torch.full((3,), -5.0), q99=torch.full((3,), 5.0)),
    }
    return {
        "backbone": tiny_qwen3_vl(
            corpus=["push the block"], view_tags=["cam", "wrist"], image_size=32, hidden=32, vision_layers=1
        ),
        "head": head,
        "prompter": EmbodimentPrompter([ARM, CRANE]),
        "normalizer": QuantileNormalizer(stats, spaces={"arm": ARM.action_space, "crane": CRANE.action_space}),
        "state_normalizer": None,
        "solver": Euler(steps=2),
        "channels": 4,
    }


@pytest.fixture(scope="module")
def policy(parts):
    return Policy(**parts)


def seen(name, *, value=0, text="push the block", tags=("cam",)):
    picture = np.full((32, 32, 3), value, dtype=np.uint8)
    return PolicyObservation(embodiment=name, instruction=text, views=dict.fromkeys(tags, picture))


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_robots_share_a_batch_and_get_chunks_of_their_own_size(policy):
    chunks = policy.act([seen("arm"), seen("crane", tags=("cam", "wrist")), seen("arm", tags=())])
    assert [chunk.shape for chunk in chunks] == [(4, 2), (6, 3), (4, 2)]
    assert all(chunk.dtype == np.float32 for chunk in chunks)


def test_an_answer_depends_on_no_neighbour(policy):
    alone = policy.act([seen("arm", value=50)], generator=generators(3))[0]
    together = policy.act([seen("crane"), seen("arm", value=50), seen("arm", value=200)], generator=generators(1, 3, 2))
    np.testing.assert_allclose(together[1], alone, rtol=0, atol=1e-4)
    again = policy.act([seen("arm", value=50)], generator=generators(3))[0]
    assert np.array_equal(alone, again)


def test_pictures_words_and_noise_matter(policy):
    base = policy.act([seen("arm", value=10)], generator=generators(0))[0]
    for observation, seed in (
        (seen("arm", value=250), 0),
        (seen("arm", value=10, text="lift it"), 0),
        (seen("arm", value=10), 1),
    ):
        assert not np.allclose(policy.act([observation], generator=generators(seed))[0], base, atol=1e-5)


def test_actions_come_back_in_native_units(parts):
    class Zero(torch.nn.Module):
        """Noise stays, and temperature 0 makes it 0: the middle of the range."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, noisy_actions, time, context, mask):
            return torch.zeros_like(noisy_actions)

    chunk = Policy(**(parts | {"head": Zero()}), temperature=0.0).act([seen("arm")])[0]
    np.testing.assert_allclose(chunk, np.tile([15.0, 0.0], (4, 1)))


def test_from_module_shares_the_parts_and_ends_training_mode(parts):
    class Module:
        pass

    module = Module()
    module.__dict__.update(parts)
    parts["head"].train()
    policy = Policy.from_module(module)
    assert policy.head is parts["head"]
    assert not policy.head.training
    assert policy.channels == 4


def test_one_generator_repeats_the_batch(policy):
    first = policy.act([seen("arm"), seen("crane")], generator=torch.Generator().manual_seed(5))
    second = policy.act([seen("arm"), seen("crane")], generator=torch.Generator().manual_seed(5))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_refuses(policy, parts):
    with pytest.raises(ShapeError, match="observations must hold at least one"):
        policy.act([])
    with pytest.raises(EmbodimentError, match="'boat'"):
        policy.act([seen("boat")])
    with pytest.raises(ShapeError, match="one generator per sample"):
        policy.act([seen("arm")], generator=generators(1, 2))
    with pytest.raises(MissingStatisticsError, match="'arm'"):
        Policy(**(parts | {"normalizer": QuantileNormalizer()})).act([seen("arm")])
    with pytest.raises(ShapeError, match="channels must be at least the size of every robot's actions, got 2"):
        Policy(**(parts | {"channels": 2})).act([seen("crane")])
    with pytest.raises(SettingError, match="channels must be at least 1, got 0"):
        Policy(**(parts | {"channels": 0}))
    with pytest.raises(SettingError, match=r"temperature must be at least 0 and finite, got -0\.5"):
        Policy(**parts, temperature=-0.5)


def going_on(policy, name, *, steps, delay, seed=0):
    """What would be left of a chunk of this policy."""
    chunk = policy.act([seen(name)], generator=generators(seed))[0]
    return ChunkPrefix(actions=chunk[-steps:], delay=delay)


@pytest.mark.parametrize("method", [GuidedPrefix(), HardPrefix(), CleanPrefix()], ids=repr)
def test_chunks_go_on_from_what_is_carried_out(method, parts):
    policy = Policy(**parts, inpainting=method)
    prefixes = [going_on(policy, "arm", steps=3, delay=2), None, going_on(policy, "crane", steps=4, delay=1)]
    asked = [seen("arm"), seen("arm", value=90), seen("crane")]
    chunks = policy.act(asked, generator=generators(5, 6, 7), prefixes=prefixes)
    assert [chunk.shape for chunk in chunks] == [(4, 2), (4, 2), (6, 3)]
    assert np.array_equal(chunks[0][:2], prefixes[0].actions[:2])
    assert np.array_equal(chunks[2][:1], prefixes[2].actions[:1])
    free = policy.act(asked, generator=generators(5, 6, 7))
    np.testing.assert_allclose(chunks[1], free[1], rtol=0, atol=1e-3)
    assert not np.allclose(chunks[0][2:], free[0][2:], atol=1e-3)  # the rest heard of it


@pytest.mark.parametrize("method", [HardPrefix(), CleanPrefix()], ids=repr)
def test_no_delay_is_plain_sampling_in_the_policy_too(method, parts):
    policy = Policy(**parts, inpainting=method)
    prefix = going_on(policy, "arm", steps=3, delay=0)
    chunk = policy.act([seen("arm")], generator=generators(4), prefixes=[prefix])[0]
    assert np.array_equal(chunk, policy.act([seen("arm")], generator=generators(4))[0])
    nothing = Policy(**parts).act([seen("arm")], generator=generators(4), prefixes=[None])[
        0
    ]  # guidance without a prefix
    assert np.array_equal(chunk, nothing)


def test_actions_beyond_the_quantiles_are_known_as_they_are(parts):
    """A prediction is not clipped on its way out, so what is known of it must not be on its way in."""

    class Told:
        def __call__(self, solver, *, known, mask, delay):
            self.known = known
            return solver

    told = Told()
    actions = np.array([[25.0, 0.0]], dtype=np.float32)  # the quantiles of the arm are 10 and 20
    Policy(**parts, inpainting=told).act([seen("arm")], prefixes=[ChunkPrefix(actions=actions, delay=1)])
    assert told.known[0, 0, :2].tolist() == [2.0, 0.0]


def test_a_prefix_that_does_not_fit_is_refused(policy):
    prefix = ChunkPrefix(actions=np.zeros((2, 3), dtype=np.float32), delay=1)
    with pytest.raises(ShapeError, match=r"prefixes\[0\]\.actions must have the 2 channels"):
        policy.act([seen("arm")], prefixes=[prefix])
    with pytest.raises(ShapeError, match="one entry per observation"):
        policy.act([seen("arm")], prefixes=[])


@pytest.mark.parametrize("history", ["images", "video"])
def test_a_policy_sees_a_history(parts, history):
    backbone = tiny_qwen3_vl(
        corpus=["push the block"], view_tags=["cam"], image_size=32, hidden=32, vision_layers=1, history=history
    )
    policy = Policy(**parts | {"backbone": backbone})
    dark, bright = (np.full((32, 32, 3), level, dtype=np.uint8) for level in (0, 250))

    def act(*pictures):
        views = {"cam": np.stack(pictures)}
        observation = PolicyObservation(embodiment="arm", instruction="push", views=views, frame_rate_hz=2.0)
        return policy.act([observation], generator=generators(0))[0]

    assert act(dark, dark, bright).shape == (4, 2)
    assert not np.allclose(act(dark, dark, bright), act(dark, bright, bright))
