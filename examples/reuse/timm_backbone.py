"""A vision model of timm and a small text encoder under somebody else's head: no language model, no download.

Run: python examples/reuse/timm_backbone.py (10 seconds on one CPU core)

Two coloured squares, and the words say which one to point at. `TimmBackbone` gives the tokens of picture and prompt in
one row with their places; their head looks from the words onto the picture and answers with the place it looks at.
"""

import sys

import torch
from torch import Tensor, nn

from vla_kit.backbones.timm_vit import TimmBackbone
from vla_kit.protocols import Context, Observation

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0)}
PATCHES = 16  # of 64 x 64 pixels; the tokens of the prompt follow them


def observe(count: int) -> tuple[list[Observation], Tensor]:
    """Pictures of a red and a green square, a sentence that names one, and its row and column."""
    observations, targets = [], []
    for _ in range(count):
        image = torch.zeros(3, 64, 64, dtype=torch.uint8)
        cells = dict(zip(COLOURS, torch.randperm(PATCHES)[:2].tolist(), strict=True))
        for colour, cell in cells.items():
            row, column = 16 * (cell // 4), 16 * (cell % 4)
            image[:, row : row + 16, column : column + 16] = torch.tensor(COLOURS[colour])[:, None, None]
        named = "red" if torch.rand(()) < 0.5 else "green"
        observations.append(Observation(prompt=f"point at the {named} square", views={"ego": image}))
        targets.append(torch.tensor([cells[named] // 4, cells[named] % 4]).float())
    return observations, torch.stack(targets)


class TheirHead(nn.Module):
    """Attention from the words to the picture; the answer is the mean place of what was looked at."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ask, self.offer = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, context: Context) -> Tensor:
        """Rows and columns [batch, 2]."""
        words = torch.where(context.mask[..., None], context.hidden, 0)[:, PATCHES:].mean(1)
        score = torch.einsum("bw,btw->bt", self.ask(words), self.offer(context.hidden[:, :PATCHES])) / 8
        places = context.position_ids[1:, :, :PATCHES].float()  # rows and columns, as a VLM's rotary positions
        return torch.einsum("bt,abt->ba", score.softmax(-1), places)


torch.manual_seed(0)
sentences = [f"point at the {colour} square" for colour in COLOURS]
backbone = TimmBackbone("test_vit", corpus=sentences, view_tags=["ego"], image_size=64, width=64)
head = TheirHead(backbone.width)
optimizer = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], lr=1e-3)
for step in range(81):
    observations, targets = observe(32)
    error = (head(backbone(backbone.prepare(observations))) - targets).norm(dim=1).mean()
    optimizer.zero_grad()
    error.backward()
    optimizer.step()
    if step % 20 == 0:
        sys.stdout.write(f"step {step}: {error:.2f} squares off\n")
