"""Parts in somebody else's LightningModule: their encoder and optimiser, our normaliser, head, loss and solver.

Run: python examples/reuse/lightning_module.py (20 seconds on one CPU core)

Nothing is inherited and nothing is registered: the parts are submodules, so a checkpoint holds them, the statistics of
the actions included, and Lightning moves, saves and shards them like any other.
"""

import sys
import tempfile
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from vla_kit.actions import ActionSpace, ChannelGroup, MaskedActions, QuantileNormalizer, QuantileStats
from vla_kit.flow import BetaTime, Euler
from vla_kit.heads import DiTHead, sample_actions
from vla_kit.losses import FlowMatchingLoss
from vla_kit.protocols import Context

SPACE = ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad", count=3)])


class TheirPolicy(LightningModule):
    """Reads four numbers, answers with a chunk of eight joint positions."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 32), nn.GELU(), nn.Linear(32, 2 * 32))
        self.normalizer = QuantileNormalizer()
        self.head = DiTHead(context_width=32, channels=4, width=32, depth=2, num_heads=2, mlp_hidden=64)
        self.loss = FlowMatchingLoss(BetaTime(alpha=1.5, beta=1.0), draws=4)

    def see(self, seen: Tensor) -> Context:
        """Two tokens of 32 features."""
        tokens = self.encoder(seen).unflatten(1, (2, 32))
        positions = torch.arange(2, device=seen.device).expand(3, len(seen), 2)
        return Context(hidden=tokens, mask=torch.ones_like(tokens[..., 0], dtype=torch.bool), position_ids=positions)

    def training_step(self, batch: list[Tensor]) -> Tensor:
        """Loss of native chunks [batch, 8, 3]."""
        seen, chunks = batch
        native = MaskedActions.pad(list(chunks), channels=4)
        return self.loss(self.head, self.normalizer.normalize(native, ["arm"] * len(seen)), self.see(seen)).mean()

    def forward(self, seen: Tensor) -> Tensor:
        """Native chunks [batch, 8, 3]."""
        mask = MaskedActions.pad([torch.zeros(8, 3)] * len(seen), channels=4).mask
        normal = MaskedActions(sample_actions(self.head, self.see(seen), mask, solver=Euler(steps=8)), mask)
        return self.normalizer.denormalize(normal, ["arm"] * len(seen)).values[..., :3]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Their own choice."""
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


torch.manual_seed(0)
seen = torch.randn(4096, 4)
chunks = 3 + seen[:, None, :3].tanh() * torch.linspace(0.2, 1, 8)[:, None]  # [sample, step, joint] in radians
policy = TheirPolicy()
policy.normalizer.add("arm", QuantileStats.from_frames(chunks.flatten(0, 1)), SPACE)
loader = DataLoader(TensorDataset(seen[:4000], chunks[:4000]), batch_size=64, shuffle=True)
with tempfile.TemporaryDirectory() as folder:
    trainer = Trainer(max_epochs=6, accelerator="cpu", default_root_dir=folder, logger=False, enable_progress_bar=False)
    trainer.fit(policy, loader)
    trainer.save_checkpoint(Path(folder) / "policy.ckpt")
    loaded = TheirPolicy.load_from_checkpoint(Path(folder) / "policy.ckpt", weights_only=True)  # statistics included
with torch.inference_mode():
    error = (loaded.eval()(seen[4000:]) - chunks[4000:]).abs().mean()
sys.stdout.write(f"mean error {error:.3f} rad (always the mean chunk: {(chunks - chunks.mean(0)).abs().mean():.3f})\n")
