"""The tiny Qwen3-VL backbone inside somebody else's policy: behaviour cloning with a linear head.

Run: python examples/reuse/tiny_backbone.py
"""

import torch
from torch import Tensor, nn

from vla_kit.backbones.tiny import tiny_qwen3_vl
from vla_kit.protocols import Backbone, Observation


class RegressionPolicy(nn.Module):
    """One action from the state of the last real token. Any `Backbone` fits, a pretrained Qwen3.5 as well."""

    def __init__(self, backbone: Backbone, action_size: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.width, action_size)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Actions [batch, action_size]."""
        context = self.backbone(inputs)
        last = context.mask.sum(dim=1) - 1
        return self.head(context.hidden[torch.arange(len(last)), last])


def observe(count: int) -> tuple[list[Observation], Tensor]:
    """Images with one bright square, and where to point: left or right of it, as the prompt says."""
    observations, targets = [], []
    for _ in range(count):
        row, column, right = torch.randint(0, 24, (3,)).tolist()
        image = torch.zeros(3, 32, 32, dtype=torch.uint8)
        image[:, row : row + 8, column : column + 8] = 255
        word, shift = ("right", 0.5) if right % 2 else ("left", -0.5)
        observations.append(Observation(prompt=f"point {word} of the square", views={"ego": image}))
        targets.append(torch.tensor([row / 12 - 1, column / 12 - 1 + shift]))
    return observations, torch.stack(targets)


def main(steps: int = 240) -> None:
    """Train; always answering 0 has an error of 0.46, and image and prompt both have to be read to get below 0.1."""
    torch.manual_seed(0)
    sentences = ["point left of the square"]
    backbone = tiny_qwen3_vl(corpus=sentences, view_tags=["ego"], image_size=32, hidden=64, heads=2, vision_layers=2)
    policy = RegressionPolicy(backbone, action_size=2)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-3)
    for step in range(steps):
        observations, targets = observe(32)
        error = (policy(backbone.prepare(observations)) - targets).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        if step % 40 == 39:
            print(f"step {step + 1:3d}  error {error.item():.3f}")


if __name__ == "__main__":
    main()
