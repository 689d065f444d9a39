import pytest
import torch
from two_samples import context, wanted

from vla_kit.actions import MaskedActions
from vla_kit.errors import SettingError, ShapeError
from vla_kit.flow import BetaTime, Euler
from vla_kit.heads import AnchoredHead, DiTHead, sample_actions
from vla_kit.losses import FlowMatchingLoss
from vla_kit.protocols import Context


def head_of(*, horizon: int = 3, zero: bool = False) -> AnchoredHead:
    torch.manual_seed(0)
    inner = DiTHead(context_width=7, channels=5, width=16, depth=2, num_heads=2, mlp_hidden=12, attention="cached")
    if not zero:
        for parameter in inner.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return AnchoredHead(inner, context_width=7, horizon=horizon)


def noisy(mask: torch.Tensor) -> torch.Tensor:
    return torch.where(mask, torch.randn(mask.shape, generator=torch.Generator().manual_seed(2)), 0)


def test_velocity_by_hand():
    """Mean of the real tokens (1 + 3) / 2 = 2, readout 2 * 10 + 1 = 21; (noisy - guess) / time = (1 - 21) / 0.5."""
    inner = DiTHead(context_width=1, channels=1, width=4, depth=1, num_heads=1, mlp_hidden=4)
    head = AnchoredHead(inner, context_width=1, horizon=1)
    torch.nn.init.constant_(head.readout.weight, 10.0)
    torch.nn.init.constant_(head.readout.bias, 1.0)
    seen = Context(
        hidden=torch.tensor([[[1.0], [3.0], [100.0]]]),
        mask=torch.tensor([[True, True, False]]),
        position_ids=torch.arange(3).expand(3, 1, 3),
    )
    one = torch.ones(1, 1, 1)
    assert head(one, torch.tensor([0.5]), seen, one.bool()).item() == pytest.approx(-40.0)


def test_small_times_are_clamped():
    head, mask = head_of(zero=True), wanted()
    expected = noisy(mask) - head.condition(context()).anchor
    velocity = head(noisy(mask), torch.tensor([0.01, 1.0]), context(), mask)
    torch.testing.assert_close(velocity[0][mask[0]], (expected[0] / 0.05)[mask[0]])
    torch.testing.assert_close(velocity[1][mask[1]], expected[1][mask[1]])


def test_the_head_inside_adds_to_the_readout():
    head, mask = head_of(), wanted()
    time = torch.tensor([0.4, 0.9])
    inner = head.head(noisy(mask), time, context(), mask)
    guess = inner + head.condition(context()).anchor
    expected = torch.where(mask, (noisy(mask) - guess) / time[:, None, None], 0)
    torch.testing.assert_close(head(noisy(mask), time, context(), mask), expected)


def test_solving_the_exact_field_ends_at_the_guess():
    head, mask = head_of(zero=True), wanted()
    with torch.no_grad():
        actions = sample_actions(head, context(), mask, solver=Euler(steps=4))
        expected = torch.where(mask, head.condition(context()).anchor, 0)
    torch.testing.assert_close(actions, expected)


def test_conditioning_once_changes_nothing():
    head, mask, time = head_of(), wanted(), torch.tensor([0.3, 0.8])
    expected = head(noisy(mask), time, context(), mask)
    assert torch.equal(head(noisy(mask), time, head.condition(context()), mask), expected)


def test_draws_share_their_context():
    head, mask = head_of(), wanted().repeat_interleave(2, 0)
    time = torch.tensor([0.3, 0.8, 0.5, 1.0])
    together = head(noisy(mask), time, context(), mask)
    seen = context()
    for row in range(4):
        alone = Context(
            hidden=seen.hidden[row // 2][None],
            mask=seen.mask[row // 2][None],
            position_ids=seen.position_ids[:, row // 2][:, None],
        )
        single = head(noisy(mask)[row][None], time[row][None], alone, mask[row][None])
        torch.testing.assert_close(single[0], together[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [2, 5])
def test_chunks_of_another_length_than_the_readout(steps):
    head = head_of(horizon=3, zero=True)
    mask = torch.ones(2, steps, 5, dtype=torch.bool)
    velocity = head(torch.zeros(2, steps, 5), torch.ones(2), context(), mask)
    torch.testing.assert_close(velocity[:, :3], -head.condition(context()).anchor[:, :steps])
    assert velocity[:, 3:].count_nonzero() == 0  # no readout there, and a new head adds nothing


def test_poison_in_padding_changes_nothing():
    head, mask = head_of(), wanted()
    loss = FlowMatchingLoss(BetaTime(alpha=8.0, beta=1.0), draws=3)
    results = []
    for poison in (0.0, float("nan")):
        head.zero_grad()
        actions = MaskedActions(values=torch.where(mask, 0.5, poison), mask=mask)
        value = loss(head, actions, context(padding=poison), generator=torch.Generator().manual_seed(4))
        value.sum().backward()
        results.append([value.detach(), *(parameter.grad.clone() for parameter in head.parameters())])
    assert all(torch.equal(clean, poisoned) for clean, poisoned in zip(*results, strict=True))
    assert results[0][0].isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"context_width": 0}, "context_width must be at least 1, got 0"),
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
        ({"smallest_time": 0.0}, r"smallest_time must lie in \(0, 1\], got 0.0"),
        ({"smallest_time": float("nan")}, r"smallest_time must lie in \(0, 1\], got nan"),
    ],
)
def test_refuses_settings(settings, message):
    inner = DiTHead(context_width=7, channels=5, width=16, depth=1, num_heads=2, mlp_hidden=12)
    with pytest.raises(SettingError, match=message):
        AnchoredHead(inner, **{"context_width": 7} | settings)


def test_refuses_another_context():
    narrow = Context(
        hidden=torch.randn(1, 4, 6), mask=torch.ones(1, 4, dtype=torch.bool), position_ids=torch.zeros(3, 1, 4).long()
    )
    with pytest.raises(ShapeError, match=r"context\.hidden must have 7 features"):
        head_of().condition(narrow)
