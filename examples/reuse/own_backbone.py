"""Somebody else's encoder as a `Backbone` inside `VLAModule`: prompts, statistics, losses and metrics come with it.

Run: python examples/reuse/own_backbone.py (15 seconds on one CPU core)

A backbone has a width, `prepare` (observations to tensors, in data workers) and a call (tensors to `Context`). What it
is inside is its own affair: here one layer for the picture and one vector for each of two sentences.
"""

import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.utils.data import DataLoader

from vla_kit.actions import ActionSpace, ChannelGroup, QuantileNormalizer
from vla_kit.data import ChunkDataset, Collate, MemoryEpisode, MemorySource, RobotReader
from vla_kit.data.statistics import action_statistics
from vla_kit.embodiment import EmbodimentPrompter, EmbodimentSpec
from vla_kit.flow import BetaTime, Euler
from vla_kit.heads import AnchoredHead, DiTHead
from vla_kit.losses import FlowMatchingLoss, JointLoss
from vla_kit.protocols import Context, Observation
from vla_kit.training.vla_module import VLAModule

SPACE = ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad", count=2)])


class TheirBackbone(nn.Module):
    """One layer makes eight tokens of an 8 x 8 picture; a ninth stands for the sentence."""

    width = 32

    def __init__(self) -> None:
        super().__init__()
        self.pixels, self.words = nn.Linear(192, 8 * 32), nn.Embedding(2, 32)

    def prepare(self, observations: list[Observation], *, with_labels: bool = False) -> dict[str, torch.Tensor]:
        """Pixels, and which of two sentences."""
        words = torch.tensor([int("left" in seen.prompt) for seen in observations])
        return {"pixels": torch.stack([seen.views["ego"] for seen in observations]) / 255, "words": words}

    def forward(self, inputs: dict[str, torch.Tensor], *, with_logits: bool = False) -> Context:
        """Nine tokens in a row."""
        tokens = self.pixels(inputs["pixels"].flatten(1)).unflatten(1, (8, 32))
        tokens = torch.cat([tokens, self.words(inputs["words"])[:, None]], dim=1)
        positions = torch.arange(9, device=tokens.device).expand(3, len(tokens), 9)
        return Context(hidden=tokens, mask=torch.ones_like(tokens[..., 0], dtype=torch.bool), position_ids=positions)


def episode(seed: int) -> MemoryEpisode:
    """A bright pixel stays; two joints stand to the left or to the right of it, as told."""
    draw = np.random.default_rng(seed)
    (row, column), side = draw.integers(8, size=2), ["left", "right"][draw.integers(2)]
    pictures = np.zeros((8, 8, 8, 3), dtype=np.uint8)
    pictures[:, row, column] = 255
    end = np.array([row / 3.5 - 1, column / 3.5 - 1 + (0.5 if side == "right" else -0.5)])
    joints = np.tile(end, (8, 1))
    return MemoryEpisode(columns={"action": joints}, cameras={"top": pictures}, instruction=f"stand {side} of it")


def main() -> None:
    """Train through Lightning and validate in radians: standing still would err by 0.60 rad."""
    torch.manual_seed(0)
    spec = EmbodimentSpec("dot", robot_tag="dot", rate_hz=10, chunk_size=4, action_space=SPACE, arms="single")
    module = VLAModule(
        backbone=TheirBackbone(), prompter=EmbodimentPrompter([spec]), normalizer=QuantileNormalizer(),
        head=AnchoredHead(
            DiTHead(context_width=32, channels=4, width=32, depth=2, num_heads=2, mlp_hidden=64),
            context_width=32, horizon=4,
        ),
        flow_loss=FlowMatchingLoss(BetaTime(alpha=8.0, beta=1.0), draws=4), loss=JointLoss(), solver=Euler(steps=8),
        backbone_learning_rate=3e-3, head_learning_rate=3e-3, backbone_warmup_steps=10, head_warmup_steps=10,
    )  # fmt: skip
    loaders = []
    for seeds in (range(400), range(1000, 1100)):
        reader = RobotReader(MemorySource([episode(seed) for seed in seeds]), embodiment="dot", views={"ego": "top"})
        collate = Collate(module.prepare, prompter=module.prompter, channels=module.channels)
        loaders.append(
            DataLoader(ChunkDataset(reader, horizon=4), batch_size=64, shuffle=seeds.start == 0, collate_fn=collate)
        )
        if seeds.start == 0:
            module.add_statistics("dot", action_statistics(reader))
    trainer = Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(module, loaders[0])
    trainer.validate(module, loaders[1])


if __name__ == "__main__":
    main()
