import math

import pytest
import torch

from vla_kit.errors import NonFiniteError, SettingError, ShapeError
from vla_kit.losses import generalized_advantages, group_advantages, normalise_advantages


def column(*entries) -> torch.Tensor:
    return torch.tensor(entries)[:, None]


def rollout(*, chunks: int = 12, envs: int = 5) -> dict[str, torch.Tensor]:
    """Random rewards, values and ends; some episodes end inside, some are cut off, some both."""
    generator = torch.Generator().manual_seed(0)
    rewards, values, next_values = (
        torch.randn(chunks, envs, generator=generator, dtype=torch.double) for _ in range(3)
    )
    ends = torch.rand(2, chunks, envs, generator=generator)
    return {
        "rewards": rewards,
        "values": values,
        "next_values": next_values,
        "terminated": ends[0] < 0.25,
        "truncated": ends[1] < 0.25,
    }


def test_three_chunks_by_hand():
    """errors 0 + 0.9 * 2 - 1 = 0.8, 0 + 0.9 * 3 - 2 = 0.7, 1 + 0.9 * 4 - 3 = 1.6; weight of later ones 0.9 * 0.5."""
    flags = column(False, False, False)
    advantages, returns = generalized_advantages(
        column(0.0, 0.0, 1.0), column(1.0, 2.0, 3.0), column(2.0, 3.0, 4.0), flags, flags, discount=0.9, trace=0.5
    )
    torch.testing.assert_close(advantages, column(0.8 + 0.45 * (0.7 + 0.45 * 1.6), 0.7 + 0.45 * 1.6, 1.6))
    torch.testing.assert_close(returns, advantages + column(1.0, 2.0, 3.0))


def test_success_has_no_future_and_a_time_limit_has():
    """The same two chunks, the first of which ends the episode in one way or the other."""

    def first(*, terminated: bool, truncated: bool) -> float:
        advantages, _ = generalized_advantages(
            column(1.0, 0.0),
            column(0.5, 0.2),
            column(0.4, 0.3),
            column(terminated, False),
            column(truncated, False),
            discount=0.9,
            trace=0.5,
        )
        assert advantages[1].item() == pytest.approx(0.9 * 0.3 - 0.2)
        return advantages[0].item()

    assert first(terminated=True, truncated=False) == pytest.approx(1 - 0.5)
    assert first(terminated=False, truncated=True) == pytest.approx(1 + 0.9 * 0.4 - 0.5)
    assert first(terminated=True, truncated=True) == pytest.approx(1 - 0.5)
    assert first(terminated=False, truncated=False) == pytest.approx(1 + 0.9 * 0.4 - 0.5 + 0.45 * (0.27 - 0.2))


def test_agrees_with_torchrl():
    functional = pytest.importorskip("torchrl.objectives.value.functional")
    parts = rollout()
    advantages, returns = generalized_advantages(**parts, discount=0.97, trace=0.9)
    done = parts["terminated"] | parts["truncated"]
    # torchrl's layout is [environment, time, feature].
    laid = {name: part.T[..., None] for name, part in {**parts, "done": done}.items()}
    expected, target = functional.generalized_advantage_estimate(
        0.97, 0.9, laid["values"], laid["next_values"], laid["rewards"], laid["done"], laid["terminated"]
    )
    # torchrl keeps the discount in float32.
    torch.testing.assert_close(advantages, expected[..., 0].T, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(returns, target[..., 0].T, atol=1e-6, rtol=1e-6)


def test_full_trace_is_the_discounted_sum_and_no_trace_one_error():
    parts = rollout(chunks=4, envs=1)
    quiet = torch.zeros(4, 1, dtype=torch.bool)
    parts |= {"terminated": quiet, "truncated": quiet, "next_values": torch.roll(parts["values"], -1, 0)}
    _, returns = generalized_advantages(**parts, discount=0.9, trace=1.0)
    total = sum(0.9**row * parts["rewards"][row, 0] for row in range(4)) + 0.9**4 * parts["next_values"][-1, 0]
    torch.testing.assert_close(returns[0, 0], total)
    advantages, _ = generalized_advantages(**parts, discount=0.9, trace=0.0)
    torch.testing.assert_close(advantages, parts["rewards"] + 0.9 * parts["next_values"] - parts["values"])


def test_the_value_after_a_termination_may_be_anything():
    parts = rollout()
    expected = generalized_advantages(**parts)
    for poison in (math.nan, math.inf):
        dirty = torch.where(parts["terminated"], poison, parts["next_values"])
        found = generalized_advantages(**(parts | {"next_values": dirty}))
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_environments_are_independent():
    parts = rollout()
    together, _ = generalized_advantages(**parts)
    for env in range(5):
        alone, _ = generalized_advantages(**{name: part[:, env : env + 1] for name, part in parts.items()})
        assert torch.equal(alone[:, 0], together[:, env])


@pytest.mark.parametrize("name", ["rewards", "values", "next_values"])
def test_inf_and_nan_raise(name):
    for bad in (math.nan, math.inf):
        parts = rollout()
        parts["terminated"][:] = False
        parts[name][3, 2] = bad
        with pytest.raises(NonFiniteError, match="rewards, values and next_values must be finite"):
            generalized_advantages(**parts)


@pytest.mark.usefixtures("shape_hook_off")
def test_settings_and_shapes_are_checked():
    for settings, text in (({"discount": 1.1}, "discount must lie"), ({"trace": -0.1}, "trace must lie")):
        with pytest.raises(SettingError, match=text):
            generalized_advantages(**rollout(), **settings)
    for name in ("values", "next_values", "terminated", "truncated"):
        parts = rollout()
        parts[name] = parts[name][:-1]
        with pytest.raises(ShapeError, match=rf"{name} must have the shape of rewards \(12, 5\), got \(11, 5\)"):
            generalized_advantages(**parts)


def test_groups_by_hand():
    """Rewards 0, 0, 1, 3: mean 1, variance (1 + 1 + 0 + 4) / 4 = 1.5."""
    rewards = torch.tensor([0.0, 7.0, 0.0, 1.0, 5.0, 3.0])
    groups = torch.tensor([-4, 12, -4, -4, 12, -4])
    std = math.sqrt(1.5)
    expected = torch.tensor([-1 / std, 1.0, -1 / std, 0.0, -1.0, 2 / std])
    torch.testing.assert_close(group_advantages(rewards, groups), expected)


def test_groups_agree_with_a_loop():
    generator = torch.Generator().manual_seed(0)
    rewards = torch.rand(60, generator=generator, dtype=torch.double)
    groups = torch.randint(7, (60,), generator=generator)
    found = group_advantages(rewards, groups)
    for group in range(7):
        own = rewards[groups == group].numpy()
        expected = torch.from_numpy((own - own.mean()) / own.std())
        torch.testing.assert_close(found[groups == group], expected)


def test_equal_rewards_give_exactly_0():
    """In floating point the mean of equal numbers need not be that number."""
    assert torch.full((7,), 0.1).mean() != torch.tensor(0.1)
    for count in (1, 3, 7, 10, 49):
        tries = torch.full((count,), 0.1)
        assert group_advantages(tries, torch.zeros(count, dtype=torch.long)).eq(0).all()
        assert normalise_advantages(tries).eq(0).all()


def test_normalised_advantages_have_mean_0_and_deviation_1():
    advantages = torch.randn(6, 9, generator=torch.Generator().manual_seed(0), dtype=torch.double) * 3 + 2
    found = normalise_advantages(advantages)
    assert found.shape == (6, 9)
    assert found.mean().item() == pytest.approx(0, abs=1e-12)
    assert found.std(correction=0).item() == pytest.approx(1)
    torch.testing.assert_close(found * advantages.std(correction=0) + advantages.mean(), advantages)


def test_a_floor_keeps_small_advantages_small():
    found = normalise_advantages(torch.tensor([0.001, -0.001]), floor=0.1)
    torch.testing.assert_close(found, torch.tensor([0.01, -0.01]))


def test_nothing_is_normalised_to_nothing():
    assert normalise_advantages(torch.zeros(0)).shape == (0,)


@pytest.mark.usefixtures("shape_hook_off")
def test_groups_are_checked():
    with pytest.raises(ShapeError, match=r"groups must have the shape of rewards \(3,\), got \(2,\)"):
        group_advantages(torch.zeros(3), torch.zeros(2, dtype=torch.long))
    with pytest.raises(SettingError, match="floor must be above 0, got 0"):
        group_advantages(torch.zeros(3), torch.zeros(3, dtype=torch.long), floor=0.0)
    for bad in (math.nan, math.inf):
        with pytest.raises(NonFiniteError, match="must be finite, got inf or NaN"):
            normalise_advantages(torch.tensor([1.0, bad]))
