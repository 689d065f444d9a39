"""PPO on somebody else's flow policy: their network, our stochastic sampler, advantages and clipped loss.

Run: python examples/reuse/flow_ppo.py (5 seconds on one CPU core)

A flow policy has no density to put into a ratio. `StochasticEuler` makes one step of the sampler Gaussian, so that the
log-probability of what was drawn is exact. The task pays 1 where a chunk of two actions lands near a hidden point.
"""

import sys

import torch
from torch import Tensor, nn

from vla_kit.flow import StochasticEuler
from vla_kit.losses import PPOLoss, group_advantages

GOAL = torch.tensor([0.7, -0.4])


class TheirField(nn.Module):
    """A velocity field that knows nothing of the goal."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def forward(self, noisy: Tensor, time: Tensor) -> Tensor:
        """Velocities of chunks [batch, 2, 1] at times [batch]."""
        return self.layers(torch.cat([noisy.flatten(1), time[:, None]], dim=1))[..., None]


def reward(chunks: Tensor) -> Tensor:
    """1 for chunks within 0.5 of the goal, else 0."""
    return ((chunks[..., 0] - GOAL).norm(dim=-1) < 0.5).float()


torch.manual_seed(0)
field, sampler, ppo = TheirField(), StochasticEuler(steps=4, noise_level=0.5), PPOLoss(clip=0.2)
optimizer = torch.optim.Adam(field.parameters(), lr=3e-3)
mask = torch.ones(256, 2, 1, dtype=torch.bool)
for step in range(21):
    with torch.no_grad():
        path = sampler.sample(field, torch.randn(256, 2, 1), mask)
    earned = reward(path.actions)
    advantages = group_advantages(earned, torch.zeros(256, dtype=torch.int64))
    for _ in range(4):
        terms = ppo(sampler.log_prob(field, path, mask), path.log_prob, advantages)
        optimizer.zero_grad()
        terms.loss.backward()
        optimizer.step()
    if step % 5 == 0:
        sys.stdout.write(
            f"step {step}: {earned.mean():.0%} near the goal, {terms.clip_fraction:.0%} of ratios clipped\n"
        )
