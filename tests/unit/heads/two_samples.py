"""Two samples of different length and width, for the tests of heads."""

import torch

from vla_kit.protocols import Context


def context(*, padding: float = 0.0) -> Context:
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    hidden = torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(1))
    return Context(
        hidden=torch.where(mask[..., None], hidden, padding),
        mask=mask,
        position_ids=torch.arange(4).expand(3, 2, 4),
    )


def wanted() -> torch.Tensor:
    mask = torch.zeros(2, 3, 5, dtype=torch.bool)
    mask[0, :, :4] = True
    mask[1, :2] = True
    return mask
