import copy
import io
import math
from dataclasses import replace

import pytest
import torch

from vla_kit.errors import SettingError, ShapeError
from vla_kit.heads import Conditioned, DiTHead
from vla_kit.heads.rope import rotary_angles
from vla_kit.protocols import Context, VelocityField

MODES = ["joint", "cached"]
BATCH, TOKEN, HORIZON, CHANNEL = 3, 6, 4, 5


def open_head(attention: str = "joint", *, depth: int = 2) -> DiTHead:
    """A head whose gates and output are not zero."""
    torch.manual_seed(0)
    head = DiTHead(
        context_width=7, channels=CHANNEL, width=16, depth=depth, num_heads=2, mlp_hidden=12, attention=attention
    )
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return head


def context(*, batch: int = BATCH, padding: float = 0.0) -> Context:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(batch, TOKEN, 7, generator=generator)
    mask = torch.ones(batch, TOKEN, dtype=torch.bool)
    mask[1:2, 4:] = False
    mask[2:3, :2] = False  # padding on the left as well
    positions = torch.stack([torch.arange(TOKEN), torch.arange(TOKEN) // 2, torch.arange(TOKEN) % 2])
    return Context(
        hidden=torch.where(mask[..., None], hidden, padding),
        mask=mask,
        position_ids=positions[:, None].expand(3, batch, TOKEN),
    )


def chunk(
    *, draws: int = 1, batch: int = BATCH, padding: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    mask = torch.zeros(batch, HORIZON, CHANNEL, dtype=torch.bool)
    mask[0, :, :3] = True
    mask[1:2, :2] = True
    mask[2:3, :3, :2] = True
    mask = mask.repeat_interleave(draws, 0)
    noisy = torch.where(mask, torch.randn(mask.shape, generator=generator), padding)
    return noisy, torch.rand(batch * draws, generator=generator), mask


@pytest.mark.parametrize("attention", MODES)
def test_is_a_velocity_field_that_answers_zero_at_first_and_in_padding(attention):
    noisy, time, mask = chunk()
    head = DiTHead(context_width=7, channels=CHANNEL, width=16, depth=2, num_heads=2, mlp_hidden=12)
    assert isinstance(head, VelocityField)
    assert not head(noisy, time, context(), mask).any()
    velocity = open_head(attention)(noisy, time, context(), mask)
    assert velocity[mask].all()
    assert not velocity[~mask].any()


def test_a_new_head_learns_in_every_part():
    head = DiTHead(context_width=7, channels=CHANNEL, width=16, depth=2, num_heads=2, mlp_hidden=12)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2)
    before = copy.deepcopy(head.state_dict())
    noisy, time, mask = chunk()
    for _ in range(4):  # the zero layers open one behind the other
        optimizer.zero_grad()
        (head(noisy, time, context(), mask) - 1).square()[mask].mean().backward()
        optimizer.step()
    assert all(parameter.grad.any() for parameter in head.parameters())
    assert not any(torch.equal(before[name], value) for name, value in head.state_dict().items())


def test_parameter_table_is_the_paper_s():
    with torch.device("meta"):
        head = DiTHead(context_width=2560)
    table = head.parameter_table()
    printed = {name: round(count / 1e6, 1) for name, count in table.items()}
    assert round(table["blocks"] / 16 / 1e6, 1) == 70.8
    assert printed["action_mlps"] == 4.9
    assert printed["context_projection"] == 3.9
    assert printed["time_embedding"] == 2.8
    assert printed["output_modulation"] == 4.7
    total = sum(parameter.numel() for parameter in head.parameters())
    assert sum(table.values()) == total
    assert round(total / 1e9, 2) == 1.15


def test_a_head_built_on_meta_can_be_filled():
    with torch.device("meta"):
        head = DiTHead(context_width=7, channels=CHANNEL, width=16, depth=1, num_heads=2, mlp_hidden=12)
    head.to_empty(device="cpu")
    head.reset_parameters()
    noisy, time, mask = chunk()
    assert not head(noisy, time, context(), mask).any()
    assert all(parameter.isfinite().all() for parameter in head.parameters())


@pytest.mark.parametrize("attention", MODES)
def test_conditioned_gives_exactly_what_the_context_gives(attention):
    head = open_head(attention)
    for draws in (1, 3):
        noisy, time, mask = chunk(draws=draws)
        conditioned = head.condition(context())
        assert isinstance(conditioned, Conditioned)
        assert torch.equal(head(noisy, time, conditioned, mask), head(noisy, time, context(), mask))


@pytest.mark.parametrize("attention", MODES)
@pytest.mark.parametrize("draws", [2, 9])  # 9 draws are too many to lie side by side
def test_draws_share_a_context_as_if_it_were_repeated(attention, draws):
    head, (noisy, time, mask) = open_head(attention), chunk(draws=draws)
    once = context()
    repeated = Context(
        hidden=once.hidden.repeat_interleave(draws, 0),
        mask=once.mask.repeat_interleave(draws, 0),
        position_ids=once.position_ids.repeat_interleave(draws, 1),
    )
    found, expected = head(noisy, time, once, mask), head(noisy, time, repeated, mask)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("attention", MODES)
@pytest.mark.parametrize("draws", [1, 3])
def test_a_sample_alone_gives_what_it_gives_in_a_mixed_batch(attention, draws):
    head, (noisy, time, mask) = open_head(attention).double(), chunk(draws=draws)
    noisy, mixed = noisy.double(), replace(context(), hidden=context().hidden.double())
    together = head(noisy, time, mixed, mask)
    for sample, (tokens, steps) in enumerate([(slice(0, 6), 4), (slice(0, 4), 2), (slice(2, 6), 3)]):
        rows = slice(sample * draws, (sample + 1) * draws)
        alone = Context(
            hidden=mixed.hidden[sample : sample + 1, tokens],
            mask=mixed.mask[sample : sample + 1, tokens],
            position_ids=mixed.position_ids[:, sample : sample + 1, tokens],
        )
        velocity = head(noisy[rows, :steps], time[rows], alone, mask[rows, :steps])
        torch.testing.assert_close(velocity, together[rows, :steps], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("attention", MODES)
def test_padding_changes_neither_velocity_nor_gradients_whatever_it_holds(attention):
    head, results = open_head(attention), []
    for padding, position in ((0.0, 0), (math.nan, 99), (math.inf, -7)):
        head.zero_grad()
        noisy, time, mask = chunk(draws=2, padding=padding)
        padded = context(padding=padding)
        padded = replace(padded, position_ids=torch.where(padded.mask, padded.position_ids, position))
        noisy.requires_grad_()
        padded.hidden.requires_grad_()
        velocity = head(noisy, time, padded, mask)
        velocity.square().sum().backward()
        gradients = [noisy.grad, padded.hidden.grad, *(parameter.grad.clone() for parameter in head.parameters())]
        assert all(gradient.isfinite().all() for gradient in gradients)
        results.append([velocity.detach(), *gradients])
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


@pytest.mark.parametrize("attention", MODES)
def test_samples_that_are_all_padding_give_zeros_and_no_nan(attention):
    head, (noisy, time, mask) = open_head(attention), chunk(draws=2)
    empty = replace(context(padding=math.nan), mask=torch.zeros(BATCH, TOKEN, dtype=torch.bool))
    velocity = head(noisy, time, empty, mask)
    assert velocity[mask].all()  # an action needs no context
    nothing = head(torch.full_like(noisy, math.nan), time, empty, torch.zeros_like(mask))
    assert not nothing.any()
    nothing.sum().backward()
    assert all(not parameter.grad.any() for parameter in head.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("attention", MODES)
def test_a_context_without_tokens_is_allowed(attention):
    head, (noisy, time, mask) = open_head(attention), chunk()
    none = Context(
        hidden=torch.zeros(BATCH, 0, 7),
        mask=torch.zeros(BATCH, 0, dtype=torch.bool),
        position_ids=torch.zeros(3, BATCH, 0, dtype=torch.long),
    )
    masked = replace(context(), mask=torch.zeros(BATCH, TOKEN, dtype=torch.bool))
    torch.testing.assert_close(head(noisy, time, none, mask), head(noisy, time, masked, mask), atol=1e-5, rtol=1e-5)


def test_actions_stand_behind_the_largest_real_position():
    conditioned = open_head().condition(context())
    assert conditioned.next_position.tolist() == [6, 4, 6]  # the second sample ends after four tokens


@pytest.mark.parametrize("attention", MODES)
def test_only_position_differences_matter(attention):
    head, (noisy, time, mask) = open_head(attention), chunk()
    moved = replace(context(), position_ids=context().position_ids + 11)
    found, expected = head(noisy, time, moved, mask), head(noisy, time, context(), mask)
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("attention", MODES)
def test_real_tokens_steps_positions_and_time_all_matter(attention):
    head, (noisy, time, mask) = open_head(attention), chunk()
    expected = head(noisy, time, context(), mask)
    changed = [
        head(noisy, time, replace(context(), hidden=context().hidden + 0.5), mask),
        head(noisy, time, replace(context(), position_ids=context().position_ids.flip(0)), mask),
        head(noisy, time * 0.5, context(), mask),
        head(noisy + torch.eye(HORIZON)[-1][:, None], time, context(), mask)[:, :-1],
    ]
    for velocity in changed:
        assert ((velocity - expected[:, : velocity.shape[1]]).abs() > 1e-5)[0].any()


def test_cached_keys_and_values_are_those_of_the_context_alone_at_time_zero():
    head, known = open_head("cached", depth=3), context()
    conditioned = head.condition(known)
    time = head.time_embedding(torch.tensor([[1.0] * 128 + [0.0] * 128]))  # cosines and sines of 0
    angles = rotary_angles(known.position_ids, sections=head.sections, theta=1e7)
    tokens = head.context_projection(known.hidden)
    for block, key, value in zip(head.blocks, conditioned.keys, conditioned.values, strict=True):
        _, expected_key, expected_value = block.project(tokens, block.modulate(time), angles)
        real = known.mask
        torch.testing.assert_close(key[real], expected_key[real], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(value[real], expected_value[real], atol=1e-5, rtol=1e-5)
        tokens = block(tokens, time=time, angles=angles, mask=known.mask[:, None, None])


def test_both_modes_have_the_same_parameters_and_agree_without_context():
    joint, cached = open_head("joint"), open_head("cached")
    cached.load_state_dict(joint.state_dict())
    noisy, time, mask = chunk()
    nothing = replace(context(), mask=torch.zeros(BATCH, TOKEN, dtype=torch.bool))
    torch.testing.assert_close(
        joint(noisy, time, nothing, mask), cached(noisy, time, nothing, mask), atol=1e-5, rtol=1e-5
    )
    assert (joint(noisy, time, context(), mask) - cached(noisy, time, context(), mask)).abs().max() > 1e-3


@pytest.mark.parametrize("attention", MODES)
def test_state_dict_and_copies_give_the_same_velocity(attention):
    head, (noisy, time, mask) = open_head(attention), chunk()
    expected = head(noisy, time, context(), mask)
    assert torch.equal(copy.deepcopy(head)(noisy, time, context(), mask), expected)
    file = io.BytesIO()
    torch.save(head.state_dict(), file)
    file.seek(0)
    fresh = DiTHead(
        context_width=7, channels=CHANNEL, width=16, depth=2, num_heads=2, mlp_hidden=12, attention=attention
    )
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(noisy, time, context(), mask), expected)


@pytest.mark.parametrize("attention", MODES)
def test_bf16_and_autocast_stay_near_float32(attention):
    head, (noisy, time, mask) = open_head(attention, depth=1), chunk(draws=2)
    expected = head(noisy, time, context(), mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        autocast = head(noisy, time, context(), mask)
    half = copy.deepcopy(head).bfloat16()
    converted = half(noisy.bfloat16(), time, replace(context(), hidden=context().hidden.bfloat16()), mask)
    mixed = half(noisy, time, context(), mask)  # float32 in, float32 out, bf16 weights
    assert (autocast.dtype, converted.dtype, mixed.dtype) == (torch.float32, torch.bfloat16, torch.float32)
    scale = expected.abs().max()
    for velocity in (autocast, converted, mixed):
        assert (velocity.float() - expected).abs().max() < 0.1 * scale


@pytest.mark.gpu
@pytest.mark.parametrize("attention", MODES)
def test_cuda_agrees_with_cpu(attention):
    head, (noisy, time, mask) = open_head(attention), chunk(draws=2)
    expected = head(noisy, time, context(), mask)
    there = context()
    there = Context(
        hidden=there.hidden.cuda(), mask=there.mask.cuda(), position_ids=there.position_ids.contiguous().cuda()
    )
    found = head.cuda()(noisy.cuda(), time.cuda(), there, mask.cuda())
    torch.testing.assert_close(found.cpu(), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"context_width": 0}, "context_width must be at least 1, got 0"),
        ({"channels": 0}, "channels must be at least 1, got 0"),
        ({"depth": 0}, "depth must be at least 1, got 0"),
        ({"num_heads": 3}, "width must be a multiple of num_heads 3, got 16"),
        ({"num_heads": 16}, "num_heads must divide width 16 into heads of even width, got 16"),
        ({"sections": [11, 11, 10]}, "sections must fit into head_width 8"),
        ({"rope_theta": 0.5}, "rope_theta must be above 1 and finite, got 0.5"),
    ],
)
def test_impossible_settings_raise(settings, text):
    with pytest.raises(SettingError, match=text):
        DiTHead(**{"context_width": 7, "width": 16, "num_heads": 2, "mlp_hidden": 12, "depth": 1, **settings})


@pytest.mark.usefixtures("shape_hook_off")
def test_unknown_attention_raises():
    with pytest.raises(SettingError, match="attention must be 'joint' or 'cached', got 'cross'"):
        DiTHead(context_width=7, attention="cross")


@pytest.mark.usefixtures("shape_hook_off")
def test_inputs_that_do_not_fit_raise():
    head, (noisy, time, mask), known = open_head(), chunk(), context()
    with pytest.raises(ShapeError, match=r"context.hidden must have 7 features, got \(3, 6, 3\)"):
        head.condition(replace(known, hidden=known.hidden[..., :3]))
    with pytest.raises(ShapeError, match=r"noisy_actions must have the shape \(batch, horizon, 5\), got \(3, 4, 2\)"):
        head(noisy[..., :2], time, known, mask)
    with pytest.raises(ShapeError, match=r"mask must have the shape of noisy_actions \(3, 4, 5\), got \(3, 4, 1\)"):
        head(noisy, time, known, mask[..., :1])
    with pytest.raises(ShapeError, match=r"time must have the shape \(3,\), got \(1,\)"):
        head(noisy, time[:1], known, mask)
    with pytest.raises(ShapeError, match="noisy_actions must hold a whole multiple of the 3 contexts, got 2 chunks"):
        head(noisy[:2], time[:2], known, mask[:2])


def test_the_condition_of_the_other_mode_raises():
    noisy, time, mask = chunk()
    for mine, other in (MODES, MODES[::-1]):
        with pytest.raises(SettingError, match=f"context must come from condition.. of a head with attention '{mine}'"):
            open_head(mine)(noisy, time, open_head(other).condition(context()), mask)
