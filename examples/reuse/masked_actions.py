"""Train your own network on two robots with different actions: only `MaskedActions` comes from vla-kit.

Run: python examples/reuse/masked_actions.py
"""

import torch
from torch import Tensor, nn

from vla_kit.actions import MaskedActions

HORIZON, CHANNELS = 16, 8


class MyPolicy(nn.Module):
    """Somebody else's policy: a state in, a chunk of fixed shape out; it knows nothing of robots."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, HORIZON * CHANNELS))

    def forward(self, state: Tensor) -> Tensor:
        """State [batch, 3] -> actions [batch, horizon, channel]."""
        return self.layers(state).unflatten(1, (HORIZON, CHANNELS))


def demonstrations(count: int, generator: torch.Generator) -> tuple[Tensor, list[Tensor]]:
    """Two robots in turn: an arm with 7 channels and 16 steps, a base with 2 channels and 8 steps."""
    goals = torch.randn(count, 2, generator=generator)
    natives, states = [], []
    for index, goal in enumerate(goals):
        steps, size = ((16, 7), (8, 2))[index % 2]
        ramp = torch.linspace(0, 1, steps)[:, None]
        natives.append(ramp * goal.repeat(4)[:size])
        states.append(torch.cat([goal, torch.tensor([index % 2.0])]))
    return torch.stack(states), natives


def main() -> None:
    """Train for a few seconds and cut native actions out of the prediction."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    policy = MyPolicy()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3)
    for step in range(301):
        states, natives = demonstrations(64, generator)
        actions = MaskedActions.pad(natives, channels=CHANNELS, horizon=HORIZON)
        error = torch.where(actions.mask, policy(states) - actions.values, 0).square()
        loss = (error.sum(dim=(1, 2)) / actions.mask.sum(dim=(1, 2))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step:3d}  error {loss.item():.4f}")
    chunks = MaskedActions(policy(states[:2]).detach(), actions.mask[:2]).cut([7, 2])
    print("native chunks:", [tuple(chunk.shape) for chunk in chunks])


if __name__ == "__main__":
    main()
