import copy
import math

import jsonargparse
import pytest
import torch

from vla_kit.actions import MaskedActions
from vla_kit.errors import SettingError
from vla_kit.flow import BetaTime, UniformTime
from vla_kit.heads import DiTHead
from vla_kit.losses import FlowMatchingLoss
from vla_kit.protocols import Context


def chunk(*, batch: int = 3, horizon: int = 4, channels: int = 5, padding: float = 0.0) -> MaskedActions:
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(batch, horizon, channels, dtype=torch.bool)
    mask[0, :, :3] = True
    mask[1, :2, :5] = True  # the last sample has no actions
    values = torch.randn(batch, horizon, channels, generator=generator)
    return MaskedActions(torch.where(mask, values, padding), mask)


def context(*, batch: int = 3, padding: float = 0.0) -> Context:
    generator = torch.Generator().manual_seed(1)
    mask = torch.ones(batch, 6, dtype=torch.bool)
    mask[1, 4:] = False
    hidden = torch.randn(batch, 6, 7, generator=generator)
    return Context(
        hidden=torch.where(mask[..., None], hidden, padding),
        mask=mask,
        position_ids=torch.arange(6).expand(3, batch, 6),
    )


class HalfTime:
    def __call__(self, count, *, like, generator=None):
        return torch.full((count,), 0.5, dtype=like.dtype, device=like.device)


def test_the_true_velocity_costs_nothing():
    actions = chunk()

    def truth(noisy_actions, time, context, mask):
        clean = actions.values.repeat_interleave(8, 0)
        return (noisy_actions - clean) / time[:, None, None]  # noise - action, from the path

    loss = FlowMatchingLoss(HalfTime(), draws=8)(truth, actions, context())
    torch.testing.assert_close(loss, torch.zeros(3), atol=1e-9, rtol=0)


def test_draws_are_sample_major_and_averaged():
    actions = MaskedActions(torch.zeros(2, 1, 1), torch.ones(2, 1, 1, dtype=torch.bool))
    seen = {}

    def field(noisy_actions, time, context, mask):
        seen.update(noisy=noisy_actions, time=time, mask=mask)
        return torch.zeros_like(noisy_actions)

    loss = FlowMatchingLoss(HalfTime(), draws=3)(field, actions, context(batch=2))
    noise = seen["noisy"].view(2, 3) * 2  # at action 0 and time 1/2 the path stands at noise / 2
    torch.testing.assert_close(loss, noise.square().mean(1))
    assert seen["time"].shape == (6,)
    assert seen["mask"].shape == (6, 1, 1)


def test_each_draw_gets_its_own_noise_and_time_from_the_generator():
    calls = []

    def field(noisy_actions, time, context, mask):
        calls.append((noisy_actions, time))
        return torch.zeros_like(noisy_actions)

    loss = FlowMatchingLoss(UniformTime(), draws=2)
    for _ in range(2):
        loss(field, chunk(), context(), generator=torch.Generator().manual_seed(3))
    (noisy, time), (noisy_again, time_again) = calls
    assert torch.equal(noisy, noisy_again)
    assert torch.equal(time, time_again)
    assert len(time.unique()) == 6
    assert not torch.equal(noisy[0], noisy[1])


@pytest.mark.parametrize("attention", ["joint", "cached"])
def test_padding_changes_neither_loss_nor_gradients_whatever_it_holds(attention):
    torch.manual_seed(0)
    head = DiTHead(context_width=7, channels=5, width=16, depth=2, num_heads=2, mlp_hidden=12, attention=attention)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    loss = FlowMatchingLoss(BetaTime(), draws=3)
    results = []
    for padding in (0.0, -5.0, math.nan, math.inf):
        head.zero_grad()
        value = loss(head, chunk(padding=padding), context(padding=padding), generator=torch.Generator().manual_seed(2))
        value.sum().backward()
        results.append((value.detach(), [parameter.grad.clone() for parameter in head.parameters()]))
    clean, clean_gradients = results[0]
    assert clean[2] == 0
    assert clean[:2].min() > 0
    assert all(gradient.isfinite().all() for gradient in clean_gradients)
    for value, gradients in results[1:]:
        assert torch.equal(value, clean)
        assert all(map(torch.equal, gradients, clean_gradients))


def test_a_sample_without_actions_gives_no_gradient():
    head = DiTHead(context_width=7, channels=5, width=16, depth=1, num_heads=2, mlp_hidden=12)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    FlowMatchingLoss(UniformTime())(head, chunk(), context())[2].backward()
    assert all(not parameter.grad.any() for parameter in head.parameters())


def test_copies_and_settings():
    loss = copy.deepcopy(FlowMatchingLoss(UniformTime(), draws=2))
    assert repr(loss) == "FlowMatchingLoss(UniformTime(), draws=2)"
    with pytest.raises(SettingError, match="draws must be at least 1, got 0"):
        FlowMatchingLoss(UniformTime(), draws=0)


@pytest.mark.filterwarnings("ignore:.*instantiate_classes:DeprecationWarning")
def test_is_built_from_yaml():
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--loss", type=FlowMatchingLoss)
    parser.add_argument("--head", type=torch.nn.Module)
    parsed = parser.parse_string(
        """
        loss:
          class_path: vla_kit.losses.FlowMatchingLoss
          init_args:
            time_sampler: {class_path: vla_kit.flow.BetaTime, init_args: {alpha: 1.5, beta: 1.0}}
            draws: 8
        head:
          class_path: vla_kit.heads.DiTHead
          init_args: {context_width: 7, width: 16, depth: 1, num_heads: 2, mlp_hidden: 8, sections: [2, 1, 1]}
        """
    )
    built = parser.instantiate_classes(parsed)
    assert repr(built.loss) == "FlowMatchingLoss(BetaTime(alpha=1.5, beta=1.0, scale=0.999), draws=8)"
    assert built.head.sections == (2, 1, 1)


class Record:
    """A field that remembers what it was asked and answers 0."""

    def __call__(self, noisy_actions, time, context, mask):
        self.noisy, self.time, self.mask = noisy_actions, time, mask
        return torch.zeros_like(noisy_actions)


def test_known_beginnings_are_clean_and_not_asked():
    actions = MaskedActions(torch.full((2, 6, 1), 7.0), torch.ones(2, 6, 1, dtype=torch.bool))
    field = Record()
    loss = FlowMatchingLoss(HalfTime(), draws=64, max_delay=3)(
        field, actions, context(batch=2), generator=torch.Generator().manual_seed(0)
    )
    known = field.time == 0
    assert field.time.shape == (128, 6)
    assert set(field.time.unique().tolist()) == {0.0, 0.5}
    assert torch.equal(known, known.cummin(1).values)  # leading steps
    assert set(known.sum(1).tolist()) == {0, 1, 2, 3}
    assert (field.noisy[known] == 7).all()
    noise = 2 * field.noisy[..., 0] - 7  # the path at time 1/2
    error = torch.where(known, 0, (noise - 7).square()).sum(1) / (~known).sum(1)
    torch.testing.assert_close(loss, error.view(2, 64).mean(1))


def test_at_least_one_step_is_asked_and_padding_is_no_step():
    mask = torch.zeros(2, 6, 1, dtype=torch.bool)
    mask[0, :2] = True  # the other chunk has no steps
    field = Record()
    actions = MaskedActions(torch.zeros(2, 6, 1), mask)
    loss = FlowMatchingLoss(HalfTime(), draws=32, max_delay=5)(field, actions, context(batch=2))
    known = (field.time == 0).view(2, 32, 6).sum(-1)
    assert set(known[0].tolist()) == {0, 1}
    assert not known[1].any()
    assert loss[0] > 0
    assert loss[1] == 0


def test_no_delay_costs_and_changes_nothing():
    fields = [Record(), Record()]
    for field, settings in zip(fields, ({}, {"max_delay": 0}), strict=True):
        loss = FlowMatchingLoss(UniformTime(), draws=2, **settings)
        loss(field, chunk(), context(), generator=torch.Generator().manual_seed(3))
    assert torch.equal(fields[0].noisy, fields[1].noisy)
    assert fields[1].time.shape == (6,)


@pytest.mark.parametrize("attention", ["joint", "cached"])
def test_padding_changes_nothing_with_known_beginnings(attention):
    torch.manual_seed(0)
    head = DiTHead(context_width=7, channels=5, width=16, depth=2, num_heads=2, mlp_hidden=12, attention=attention)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    loss = FlowMatchingLoss(BetaTime(), draws=3, max_delay=2)
    results = []
    for padding in (0.0, math.nan):
        head.zero_grad()
        value = loss(head, chunk(padding=padding), context(padding=padding), generator=torch.Generator().manual_seed(2))
        value.sum().backward()
        results.append([value.detach(), *(parameter.grad.clone() for parameter in head.parameters())])
    assert all(one.isfinite().all() for one in results[0])
    assert all(map(torch.equal, *results))


def test_delay_settings():
    assert repr(FlowMatchingLoss(UniformTime(), max_delay=2)) == "FlowMatchingLoss(UniformTime(), draws=4, max_delay=2)"
    with pytest.raises(SettingError, match="max_delay must be at least 0, got -1"):
        FlowMatchingLoss(UniformTime(), max_delay=-1)
