import copy
import math

import pytest
import torch

from vla_kit.errors import NonFiniteError, SettingError, ShapeError
from vla_kit.flow import StochasticEuler
from vla_kit.losses import PPOLoss


def logs(*ratios: float) -> torch.Tensor:
    return torch.tensor(ratios).log()[:, None]


def test_four_ratios_by_hand():
    """Good and bad chunks on either side: 1.2 * 1, 0.5 * 1, 1.5 * -2, 0.8 * -2 (held at the bound)."""
    log_prob = logs(1.5, 0.5, 1.5, 0.5).requires_grad_()
    old = torch.full_like(log_prob, 0.3)
    terms = PPOLoss()(log_prob + 0.3, old, torch.tensor([1.0, 1.0, -2.0, -2.0]))
    assert terms.loss.item() == pytest.approx(-(1.2 + 0.5 - 3.0 - 1.6) / 4)
    assert terms.policy.item() == terms.loss.item()
    assert terms.clip_fraction.item() == 1.0
    assert terms.ratio_mean.item() == pytest.approx(1.0)
    assert terms.ratio_smallest.item() == pytest.approx(0.5)
    assert terms.ratio_largest.item() == pytest.approx(1.5)
    approximate_kl = (0.5 - math.log(1.5) - 0.5 - math.log(0.5)) / 2
    assert terms.approximate_kl.item() == pytest.approx(approximate_kl, abs=1e-6)
    terms.loss.backward()
    # Where the bound holds, nothing pushes; elsewhere the gradient is -ratio * advantage / 4.
    torch.testing.assert_close(log_prob.grad, torch.tensor([0.0, -0.125, 0.75, 0.0])[:, None])


def test_equal_weights_give_the_policy_gradient():
    log_prob = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    advantages = torch.tensor([1.0, -1.0, 0.5, 0.0, 2.0])
    terms = PPOLoss()(log_prob, log_prob.detach().clone(), advantages)
    assert terms.ratio_smallest.item() == terms.ratio_largest.item() == 1.0
    assert terms.clip_fraction.item() == terms.approximate_kl.item() == 0.0
    assert terms.loss.item() == pytest.approx(-advantages.mean().item())
    terms.loss.backward()
    torch.testing.assert_close(log_prob.grad, -advantages[:, None].expand(5, 3) / 15)


def test_agrees_with_torchrl():
    """torchrl's clipped objective, through its own module and a normal policy of one action."""
    objectives = pytest.importorskip("torchrl.objectives")
    tensordict, nn = pytest.importorskip("tensordict"), pytest.importorskip("tensordict.nn")
    modules = pytest.importorskip("torchrl.modules")
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 1).double()
    network = nn.TensorDictModule(_LocAndScale(layer), in_keys=["observation"], out_keys=["loc", "scale"])
    actor = modules.ProbabilisticActor(
        network, in_keys=["loc", "scale"], distribution_class=torch.distributions.Normal, return_log_prob=True
    )
    observation, action = torch.randn(40, 3).double(), torch.randn(40, 1).double()
    advantage = torch.randn(40, 1).double()
    log_prob = torch.distributions.Normal(layer(observation), 0.5).log_prob(action)
    old = log_prob.detach() + 0.3 * torch.randn(40, 1).double()
    data = tensordict.TensorDict(
        {
            "observation": observation,
            "action": action,
            "advantage": advantage,
            "sample_log_prob": old,
            "action_log_prob": old,
        },
        [40],
    )
    reference = objectives.ClipPPOLoss(actor, None, clip_epsilon=0.2, entropy_bonus=False, critic_coeff=None)
    expected = reference(data)
    terms = PPOLoss()(log_prob, old, advantage[:, 0])
    assert 0.1 < terms.clip_fraction.item() < 0.9
    torch.testing.assert_close(terms.loss, expected["loss_objective"])
    torch.testing.assert_close(terms.clip_fraction.float(), expected["clip_fraction"].float())


class _LocAndScale(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, observation):
        loc = self.layer(observation)
        return loc, torch.full_like(loc, 0.5)


def test_per_entry_is_the_geometric_mean_of_the_entries_ratios():
    each = torch.tensor([[1.3, 0.9, 1.1, 1.0], [2.0, 0.8, 1.0, 1.0]]).log()
    entries = torch.tensor([4, 2])  # the last two of the second chunk are padding, whose log-ratio is 0
    terms = PPOLoss(ratio="per_entry", clip=0.05)(
        each.sum(1, keepdim=True), torch.zeros(2, 1), torch.tensor([1.0, -1.0]), entries=entries
    )
    first, second = (1.3 * 0.9 * 1.1) ** (1 / 4), (2.0 * 0.8) ** (1 / 2)
    assert terms.ratio_smallest.item() == pytest.approx(first)
    assert terms.ratio_largest.item() == pytest.approx(second)
    assert terms.loss.item() == pytest.approx((-1.05 + second) / 2)


def test_a_path_has_the_ratio_of_its_transitions_product():
    log_prob, old = torch.tensor([[0.1, -0.05]]), torch.zeros(1, 2)
    apart = PPOLoss()(log_prob, old, torch.ones(1))
    whole = PPOLoss()(log_prob.sum(1, keepdim=True), old.sum(1, keepdim=True), torch.ones(1))
    assert apart.ratio_mean.item() == pytest.approx((math.exp(0.1) + math.exp(-0.05)) / 2)
    assert whole.ratio_mean.item() == pytest.approx(math.exp(0.05))
    assert whole.approximate_kl.item() == pytest.approx(math.exp(0.05) - 1 - 0.05, abs=1e-7)


def test_kl_and_entropy_are_weighted_terms():
    log_prob = torch.zeros(2, 1, requires_grad=True)
    kl = torch.tensor([[2.0], [4.0]], requires_grad=True)
    entropy = torch.tensor([[1.0], [5.0]], requires_grad=True)
    loss = PPOLoss(kl_weight=0.1, entropy_weight=0.01)
    terms = loss(log_prob, torch.zeros(2, 1), torch.tensor([1.0, 2.0]), kl=kl, entropy=entropy)
    assert terms.loss.item() == pytest.approx(-1.5 + 0.1 * 3 - 0.01 * 3)
    assert (terms.policy.item(), terms.kl.item(), terms.entropy.item()) == (-1.5, 3.0, 3.0)
    terms.loss.backward()
    assert kl.grad.tolist() == [[pytest.approx(0.05)]] * 2
    assert entropy.grad.tolist() == [[pytest.approx(-0.005)]] * 2
    watched = PPOLoss()(log_prob, torch.zeros(2, 1), torch.tensor([1.0, 2.0]), kl=kl, entropy=entropy)
    assert watched.loss.item() == -1.5
    assert watched.kl.item() == 3.0


def test_only_the_loss_has_a_graph():
    log_prob = torch.zeros(2, 1, requires_grad=True)
    terms = PPOLoss(kl_weight=1.0)(log_prob, torch.zeros(2, 1), torch.ones(2), kl=log_prob**2)
    names = [name for name in terms.__slots__ if getattr(terms, name).requires_grad]
    assert names == ["loss"]


def test_old_weights_and_advantages_get_no_gradient():
    log_prob, old = (torch.zeros(2, 1, requires_grad=True) for _ in range(2))
    advantages = torch.ones(2, requires_grad=True)
    PPOLoss()(log_prob, old, advantages).loss.backward()
    assert log_prob.grad is not None
    assert old.grad is None
    assert advantages.grad is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["log_prob", "old_log_prob", "advantages"])
def test_inf_and_nan_raise(name, bad):
    parts = {"log_prob": torch.zeros(3, 1), "old_log_prob": torch.zeros(3, 1), "advantages": torch.ones(3)}
    parts[name][1] = bad
    with pytest.raises(NonFiniteError, match=f"^{name} must be finite, got 1 of 3 entries inf or NaN"):
        PPOLoss()(**parts)


def test_a_ratio_beyond_all_bounds_raises():
    with pytest.raises(NonFiniteError, match="ratio must be finite, got 1 of 2 entries"):
        PPOLoss()(torch.tensor([[200.0], [0.0]]), torch.zeros(2, 1), torch.ones(2))


@pytest.mark.usefixtures("shape_hook_off")
def test_settings_and_shapes_are_checked():
    for settings, text in (
        ({"clip": 0.0}, "clip must lie between 0 and 1, got 0"),
        ({"clip": 1.0}, "clip must lie between 0 and 1, got 1"),
        ({"ratio": "mean"}, "ratio must be 'exact' or 'per_entry', got 'mean'"),
        ({"kl_weight": -1.0}, "kl_weight must be at least 0"),
        ({"entropy_weight": math.inf}, "entropy_weight must be at least 0 and finite"),
    ):
        with pytest.raises(SettingError, match=text):
            PPOLoss(**settings)
    good = {"log_prob": torch.zeros(3, 1), "old_log_prob": torch.zeros(3, 1), "advantages": torch.ones(3)}
    for name, wrong, text in (
        ("old_log_prob", torch.zeros(3, 2), r"old_log_prob must have the shape of log_prob \(3, 1\), got \(3, 2\)"),
        ("kl", torch.zeros(3), r"kl must have the shape of log_prob \(3, 1\), got \(3,\)"),
        ("entropy", torch.zeros(1, 1), r"entropy must have the shape of log_prob \(3, 1\), got \(1, 1\)"),
        ("advantages", torch.ones(3, 1), r"advantages must have the shape \(3,\), got \(3, 1\)"),
        ("entries", torch.ones(2), r"entries must have the shape \(3,\), got \(2,\)"),
    ):
        with pytest.raises(ShapeError, match=text):
            PPOLoss()(**(good | {name: wrong}))
    for loss, text in (
        (PPOLoss(kl_weight=0.1), r"kl must be given when kl_weight is 0\.1, got None"),
        (PPOLoss(entropy_weight=0.1), r"entropy must be given when entropy_weight is 0\.1, got None"),
        (PPOLoss(ratio="per_entry"), r"entries must be given for ratio 'per_entry', got None"),
    ):
        with pytest.raises(SettingError, match=text):
            loss(**good)
    loss = PPOLoss(kl_weight=0.1)
    assert copy.deepcopy(loss).__dict__ == loss.__dict__
    assert repr(loss) == "PPOLoss(clip=0.2, ratio='exact', kl_weight=0.1, entropy_weight=0.0)"


def test_a_flow_policy_learns_a_bandit_from_reward_alone():
    """Actions of N(0, 1) begin where the reward is 0 nearly everywhere; the mean moves to where it is 1."""
    generator, sampler, loss = torch.Generator().manual_seed(0), StochasticEuler(steps=4), PPOLoss()
    shift = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.Adam([shift], lr=0.02)
    mask = torch.ones(256, 1, 1, dtype=torch.bool)

    def field(noisy, time):
        span = time.view(-1, 1, 1)
        return (2 * span - 1) / ((1 - span) ** 2 + span**2) * (noisy - (1 - span) * shift) - shift

    def success() -> float:
        noise = torch.randn(256, 1, 1, generator=generator)
        actions = sampler.sample(field, noise, mask, generator=generator).actions
        return (actions > 1).float().mean().item()

    with torch.no_grad():
        before = success()
    for _ in range(25):
        with torch.no_grad():
            noise = torch.randn(256, 1, 1, generator=generator)
            path = sampler.sample(field, noise, mask, generator=generator)
        reward = (path.actions.flatten() > 1).float()
        advantages = (reward - reward.mean()) / reward.std()
        for _ in range(4):
            optimiser.zero_grad()
            loss(sampler.log_prob(field, path, mask), path.log_prob, advantages).loss.backward()
            optimiser.step()
    with torch.no_grad():
        after = success()
    assert before < 0.3
    assert after > before + 0.4
