"""Two sizes of the action head, and inputs with padding, for the benchmarks of speed."""

from dataclasses import dataclass, replace
from typing import Literal

import torch

from vla_kit.actions import MaskedActions
from vla_kit.heads import DiTHead
from vla_kit.protocols import Context

Attention = Literal["joint", "cached"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSize:
    """What `DiTHead` is built with."""

    context_width: int
    channels: int
    width: int
    depth: int
    num_heads: int
    mlp_hidden: int

    def build(self, attention: Attention, *, dtype: torch.dtype = torch.float32) -> DiTHead:
        """A head as after some training: with drawn weights in the layers that start at 0."""
        torch.manual_seed(0)
        head = DiTHead(
            context_width=self.context_width,
            channels=self.channels,
            width=self.width,
            depth=self.depth,
            num_heads=self.num_heads,
            mlp_hidden=self.mlp_hidden,
            attention=attention,
        )
        for layer in (*(block.modulation for block in head.blocks), head.output_modulation, head.action_out[-1]):
            torch.nn.init.normal_(layer.weight, std=0.02)
        return head.to(dtype)

    def context(self, *, batch: int, tokens: int, dtype: torch.dtype = torch.float32) -> Context:
        """Context tokens; every other sample is a quarter shorter."""
        mask = torch.ones(batch, tokens, dtype=torch.bool)
        mask[1::2, tokens - tokens // 4 :] = False
        hidden = torch.randn(batch, tokens, self.context_width, generator=torch.Generator().manual_seed(1))
        positions = torch.arange(tokens).expand(3, batch, tokens)
        return Context(hidden=hidden.to(dtype), mask=mask, position_ids=positions)

    def actions(self, *, batch: int, horizon: int) -> MaskedActions:
        """Chunks of a robot that fills half of the channels; every other sample is a quarter shorter."""
        mask = torch.zeros(batch, horizon, self.channels, dtype=torch.bool)
        mask[..., : self.channels // 2] = True
        mask[1::2, horizon - horizon // 4 :] = False
        values = torch.randn(mask.shape, generator=torch.Generator().manual_seed(2))
        return MaskedActions(values=torch.where(mask, values, 0), mask=mask)


SMALL = HeadSize(context_width=256, channels=32, width=192, depth=4, num_heads=6, mlp_hidden=768)
PAPER = HeadSize(context_width=2560, channels=64, width=1536, depth=16, num_heads=24, mlp_hidden=10240)


def sizes(blocks: int) -> dict[str, HeadSize]:
    """The small size, and so many of the 16 blocks of the paper's."""
    return {"small": SMALL, f"paper's width, {blocks} blocks": replace(PAPER, depth=blocks)}
