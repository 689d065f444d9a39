import math

import pytest
import torch
from two_samples import context, wanted

from vla_kit.errors import SettingError, ShapeError
from vla_kit.flow import Euler, Heun
from vla_kit.heads import DiTHead, sample_actions

MODES = ["joint", "cached"]


def open_head(attention: str) -> DiTHead:
    torch.manual_seed(0)
    head = DiTHead(context_width=7, channels=5, width=16, depth=2, num_heads=2, mlp_hidden=12, attention=attention)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return head


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_a_field_that_points_at_an_action_ends_there():
    action = torch.full((2, 3, 5), 0.25)

    def field(noisy_actions, time, context, mask):
        return (noisy_actions - action) / time[:, None, None]

    actions = sample_actions(field, context(), torch.ones(2, 3, 5, dtype=torch.bool), solver=Euler(steps=3))
    torch.testing.assert_close(actions, action)


@pytest.mark.parametrize("attention", MODES)
@pytest.mark.parametrize("solver", [Euler(steps=3), Heun(steps=2)], ids=repr)
def test_conditioning_once_gives_what_conditioning_at_every_step_gives(attention, solver):
    head, mask = open_head(attention), wanted()
    noise = torch.where(mask, torch.randn(mask.shape, generator=seeded()), 0)
    expected = solver(lambda noisy, time: head(noisy, time, context(), mask), noise)
    assert torch.equal(sample_actions(head, context(), mask, solver=solver, generator=seeded()), expected)
    assert torch.equal(sample_actions(head, context(), mask, solver=solver, noise=noise), expected)


@pytest.mark.parametrize("attention", MODES)
def test_padding_changes_no_sample_and_is_answered_with_zeros(attention):
    head, mask = open_head(attention), wanted()
    samples = []
    for padding in (0.0, math.nan):
        noise = torch.where(mask, torch.randn(mask.shape, generator=seeded()), padding)
        samples.append(sample_actions(head, context(padding=padding), mask, solver=Euler(steps=4), noise=noise))
    assert torch.equal(samples[0], samples[1])
    assert not samples[0][~mask].any()
    assert samples[0][mask].all()


def test_generator_decides_the_sample():
    head = open_head("cached")

    def sample(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return sample_actions(head, context(), wanted(), solver=Euler(steps=2), generator=generator)

    assert torch.equal(sample(0), sample(0))
    assert not torch.equal(sample(0), sample(1))


@pytest.mark.parametrize("attention", MODES)
def test_several_chunks_per_context(attention):
    mask = wanted().repeat_interleave(3, 0)
    actions = sample_actions(open_head(attention), context(), mask, solver=Euler(steps=2), generator=seeded())
    assert actions.shape == (6, 3, 5)
    assert not torch.equal(actions[0], actions[1])


def test_temperature_scales_the_first_noise():
    def still(noisy_actions, time, context, mask):
        return torch.zeros_like(noisy_actions)

    def sample(temperature: float) -> torch.Tensor:
        return sample_actions(
            still, context(), wanted(), solver=Euler(steps=1), generator=seeded(), temperature=temperature
        )

    torch.testing.assert_close(sample(0.6), 0.6 * sample(1.0))
    assert not sample(0.0).any()


@pytest.mark.usefixtures("shape_hook_off")
def test_inputs_that_do_not_fit_raise():
    with pytest.raises(SettingError, match=r"temperature must be at least 0 and finite, got -1.0"):
        sample_actions(open_head("joint"), context(), wanted(), solver=Euler(), temperature=-1.0)
    with pytest.raises(ShapeError, match=r"noise must have the shape of mask \(2, 3, 5\), got \(2, 3, 1\)"):
        sample_actions(open_head("joint"), context(), wanted(), solver=Euler(), noise=torch.zeros(2, 3, 1))
