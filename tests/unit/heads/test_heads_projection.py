"""Interchangeable action projections of the DiT head."""

import copy
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from two_samples import context, wanted

from vla_kit.errors import EmbodimentError, SettingError
from vla_kit.heads import ActionProjection, AnchoredHead, ConcatenatedProjection, DiTHead, PerEmbodimentProjection

PROJECTIONS = [
    partial(PerEmbodimentProjection, embodiments=["arm", "crane", "dog"]),
    partial(ConcatenatedProjection, sizes={"arm": 4, "crane": 5, "dog": 2}),
]
MODES = ["joint", "cached"]
ROBOTS = ("arm", "crane")
IDS = ["per_embodiment", "concatenated"]


def open_head(projection, attention: str = "joint") -> DiTHead:
    """A head whose gates and output are not zero."""
    torch.manual_seed(0)
    head = DiTHead(
        context_width=7,
        channels=5,
        width=16,
        depth=2,
        num_heads=2,
        mlp_hidden=12,
        attention=attention,
        projection=projection,
    )
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return head


def named(*robots: str, padding: float = 0.0):
    return replace(context(padding=padding), embodiments=robots or ROBOTS)


def chunk(*, draws: int = 1, padding: float = 0.0):
    mask = wanted().repeat_interleave(draws, 0)
    generator = torch.Generator().manual_seed(2)
    noisy = torch.where(mask, torch.randn(mask.shape, generator=generator), padding)
    return noisy, torch.rand(2 * draws, generator=generator), mask


@pytest.mark.parametrize("projection", PROJECTIONS, ids=IDS)
@pytest.mark.parametrize("draws", [1, 3])
def test_encodes_and_decodes_each_sample_with_the_networks_of_its_robot(projection, draws):
    """Independent reference: loop over samples and steps, apply the layers of the named robot as they stand."""
    part = open_head(projection).projection.double()
    address = part.address(ROBOTS, device=torch.device("cpu"))
    actions = torch.where(
        *(lambda noisy, mask: (mask, noisy.double(), 0))(chunk(draws=draws)[0], chunk(draws=draws)[2])
    )
    tokens = torch.randn(2 * draws, 3, 16, dtype=torch.double)
    encoded, decoded = part.encode(actions, address), part.decode(tokens, address)
    for row in range(2 * draws):
        robot = ROBOTS[row // draws]
        if isinstance(part, PerEmbodimentProjection):
            entered, left, size = part.encoders[robot](actions[row]), part.decoders[robot](tokens[row]), 5
        else:
            size = part.sizes[robot]
            entered = part.encoder(actions[row, :, :size] @ part.enter[robot].weight.T + part.enter_bias)
            left = part.leave[robot](part.decoder(tokens[row]))
        torch.testing.assert_close(encoded[row], entered)
        torch.testing.assert_close(decoded[row, :, :size], left)
        assert decoded[row, :, size:].isnan().all()


def test_slots_of_the_long_vector_by_hand():
    part = ConcatenatedProjection(4, 8, sizes={"crane": 3, "arm": 2})  # sorted: arm 0-1, crane 2-4, nowhere 5
    address = part.address(["crane", "arm"], device=torch.device("cpu"))
    assert address.tolist() == [[2, 3, 4, 5], [0, 1, 5, 5]]


@pytest.mark.parametrize("attention", MODES)
@pytest.mark.parametrize("projection", PROJECTIONS, ids=IDS)
def test_padding_changes_neither_velocity_nor_gradients_whatever_it_holds(projection, attention):
    head, results = open_head(projection, attention), []
    for padding in (0.0, math.nan, math.inf):
        head.zero_grad()
        noisy, time, mask = chunk(draws=2, padding=padding)
        noisy.requires_grad_()
        velocity = head(noisy, time, named(padding=padding), mask)
        velocity.square().sum().backward()
        gradients = [noisy.grad, *(parameter.grad.clone() for parameter in head.parameters())]
        assert velocity[mask].all()
        assert not velocity[~mask].any()
        assert all(gradient.isfinite().all() for gradient in gradients)
        results.append([velocity.detach(), *gradients])
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


@pytest.mark.parametrize("projection", PROJECTIONS, ids=IDS)
def test_a_sample_alone_gives_what_it_gives_in_a_mixed_batch(projection):
    head, (noisy, time, mask) = open_head(projection, "cached").double(), chunk(draws=2)
    noisy, both = noisy.double(), named()
    both = replace(both, hidden=both.hidden.double())
    together = head(noisy, time, both, mask)
    for sample, robot in enumerate(ROBOTS):
        rows = slice(2 * sample, 2 * sample + 2)
        alone = replace(
            both,
            hidden=both.hidden[sample : sample + 1],
            mask=both.mask[sample : sample + 1],
            position_ids=both.position_ids[:, sample : sample + 1],
            embodiments=(robot,),
        )
        torch.testing.assert_close(head(noisy[rows], time[rows], alone, mask[rows]), together[rows])


@pytest.mark.parametrize("projection", PROJECTIONS, ids=IDS)
def test_a_robot_has_weights_of_its_own_and_others_get_a_gradient_of_zero(projection):
    head, (noisy, time, mask) = open_head(projection), chunk()
    velocity = head(noisy, time, named(), mask)
    head(noisy, time, named(), mask).square().sum().backward()
    for name, parameter in head.named_parameters():
        if ".dog." in name:
            assert not parameter.grad.any()
        elif ".arm." in name or ".crane." in name:
            assert parameter.grad.any()
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if ".crane." in name:
                parameter.add_(0.5)
    changed = head(noisy, time, named(), mask)
    assert torch.equal(changed[0], velocity[0])
    assert not torch.equal(changed[1], velocity[1])


@pytest.mark.parametrize("projection", PROJECTIONS, ids=IDS)
def test_a_new_head_answers_zero_and_can_be_built_on_meta(projection):
    sizes = {"context_width": 7, "channels": 5, "width": 16, "depth": 1, "num_heads": 2, "mlp_hidden": 12}
    with torch.device("meta"):
        head = DiTHead(**sizes, projection=projection)
    head.to_empty(device="cpu")
    head.reset_parameters()
    noisy, time, mask = chunk()
    assert isinstance(head.projection, ActionProjection)
    assert not head(noisy, time, named(), mask).any()
    assert all(parameter.isfinite().all() for parameter in head.parameters())
    assert sum(head.parameter_table().values()) == sum(parameter.numel() for parameter in head.parameters())


@pytest.mark.parametrize("projection", PROJECTIONS, ids=IDS)
def test_conditioned_copies_and_other_heads_around_it(projection):
    head, (noisy, time, mask) = open_head(projection, "cached"), chunk()
    expected = head(noisy, time, named(), mask)
    assert torch.equal(head(noisy, time, head.condition(named()), mask), expected)
    assert torch.equal(copy.deepcopy(head)(noisy, time, named(), mask), expected)
    anchored = AnchoredHead(head, context_width=7, horizon=3)
    assert anchored(noisy, time, named(), mask)[mask].all()


def test_the_order_of_the_robots_does_not_matter_to_a_checkpoint():
    for first, second in (
        (PROJECTIONS[0], partial(PerEmbodimentProjection, embodiments=["dog", "crane", "arm"])),
        (PROJECTIONS[1], partial(ConcatenatedProjection, sizes={"dog": 2, "crane": 5, "arm": 4})),
    ):
        one, other = open_head(first), open_head(second)
        other.load_state_dict(one.state_dict())
        noisy, time, mask = chunk()
        assert torch.equal(one(noisy, time, named(), mask), other(noisy, time, named(), mask))


def test_a_real_entry_behind_the_declared_size_is_answered_with_nan():
    head = open_head(partial(ConcatenatedProjection, sizes={"arm": 3, "crane": 5}))
    noisy, time, mask = chunk()  # the arm has four channels
    velocity = head(noisy, time, named(), mask)
    assert velocity[0, :, 3].isnan().all()
    assert velocity[0, :, :3].isfinite().all()


@pytest.mark.parametrize("projection", PROJECTIONS, ids=IDS)
def test_bf16_and_autocast_stay_near_float32(projection):
    head, (noisy, time, mask) = open_head(projection), chunk()
    expected = head(noisy, time, named(), mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        autocast = head(noisy, time, named(), mask)
    half = copy.deepcopy(head).bfloat16()(noisy, time, named(), mask)
    for velocity in (autocast, half):
        assert velocity.dtype == torch.float32
        assert (velocity - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.parametrize("projection", PROJECTIONS, ids=IDS)
def test_unknown_and_missing_robots_are_refused_by_name(projection):
    head = open_head(projection)
    with pytest.raises(EmbodimentError, match=r"must be among the projection's .*'arm'.*, got \['boat'\]"):
        head.condition(named("arm", "boat"))
    with pytest.raises(EmbodimentError, match="must name the robot of each of the 2 samples, got 0 names"):
        head.condition(context())


def test_the_condition_of_a_head_without_this_projection_raises():
    noisy, time, mask = chunk()
    with pytest.raises(SettingError, match=r"context must come from condition\(\) of a head with this projection"):
        open_head(PROJECTIONS[0])(noisy, time, open_head(None).condition(named()), mask)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: PerEmbodimentProjection(5, 8, embodiments=[]), "embodiments must name each robot once"),
        (lambda: PerEmbodimentProjection(5, 8, embodiments=["a", "a"]), "embodiments must name each robot once"),
        (lambda: PerEmbodimentProjection(5, 8, embodiments=["a.b"]), "without a full stop"),
        (lambda: ConcatenatedProjection(5, 8, sizes={"arm": 6}), r"sizes must lie in \[1, channels = 5\], got .*arm"),
        (lambda: open_head(lambda channels, width: torch.nn.Identity()), "projection must make an ActionProjection"),
    ],
)
def test_impossible_settings_raise(build, text):
    with pytest.raises(SettingError, match=text):
        build()
