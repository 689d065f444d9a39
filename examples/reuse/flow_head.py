"""The flow head in somebody else's policy: their own CNN sees, DiTHead acts.

Run: python examples/reuse/flow_head.py (10 seconds on one CPU core)

A point must walk to a bright spot in a 16 x 16 picture. Everything but the head, the loss and the solver is plain
PyTorch; the only glue is a `Context`: tokens, which of them are real, and where they stand. Rotary positions tell the
head distances, not places, so the picture carries two channels of coordinates, as the tokens of a VLM carry theirs.
"""

import sys

import torch
from torch import nn

from vla_kit.actions import MaskedActions
from vla_kit.flow import BetaTime, Euler
from vla_kit.heads import DiTHead, sample_actions
from vla_kit.losses import FlowMatchingLoss
from vla_kit.protocols import Context

GRID = torch.stack(torch.meshgrid(torch.linspace(-1, 1, 16), torch.linspace(-1, 1, 16), indexing="ij"))


def episodes(count: int) -> tuple[torch.Tensor, MaskedActions]:
    """Pictures with a bright spot, and the straight walk of four steps from the centre to it, in [-1, 1]."""
    spot = torch.randint(0, 256, (count,))
    bright = 4 * nn.functional.one_hot(spot, 256).view(count, 1, 16, 16)
    walk = GRID.flatten(1)[:, spot].T[:, None] * torch.linspace(0.25, 1, 4)[:, None]
    return torch.cat([bright, bright * GRID], 1), MaskedActions(walk, torch.ones_like(walk, dtype=torch.bool))


def see(cnn: nn.Module, pictures: torch.Tensor) -> Context:
    """Their encoder's feature map as context tokens at grid positions (time, row, column)."""
    tokens = cnn(pictures).flatten(2).transpose(1, 2)  # [batch, 16, 32]
    row, column = torch.arange(16) // 4, torch.arange(16) % 4
    position_ids = torch.stack([torch.zeros_like(row), row, column])[:, None].expand(3, len(pictures), 16)
    return Context(hidden=tokens, mask=torch.ones(tokens.shape[:2], dtype=torch.bool), position_ids=position_ids)


torch.manual_seed(0)
cnn = nn.Sequential(nn.Conv2d(3, 32, 4, stride=4), nn.ReLU(), nn.Conv2d(32, 32, 1))
head = DiTHead(context_width=32, channels=2, width=32, depth=2, num_heads=2, mlp_hidden=64, attention="cached")
loss = FlowMatchingLoss(BetaTime(alpha=1.5, beta=1.0), draws=4)
optimizer = torch.optim.AdamW([*cnn.parameters(), *head.parameters()], lr=5e-3)
for _ in range(300):
    pictures, actions = episodes(32)
    optimizer.zero_grad()
    loss(head, actions, see(cnn, pictures)).mean().backward()
    optimizer.step()

pictures, truth = episodes(64)
with torch.inference_mode():
    sampled = sample_actions(head, see(cnn, pictures), truth.mask, solver=Euler(steps=8))
distance = (sampled - truth.values)[:, -1].norm(dim=-1).mean()
sys.stdout.write(f"mean distance to the spot: {distance:.2f} (standing still: 0.82)\n")
