"""What a stochastic sampler remembers of its way: enough to ask other weights for the density of the same way."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vla_kit.errors import SettingError

__all__ = ["StochasticPath"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StochasticPath:
    """Sampled actions, and the noisy steps that led to them.

    Args:
        actions: Normalised actions at time 0, exactly 0 in padding.
        before: Point at which each stored step began.
        after: Point at which it ended.
        step: Index of the solver step: 0 begins at time 1, `i` at time `1 - i / steps`.
        log_prob: Log-density of each stored step under the weights that took it, over real entries, in nats.

    Examples:
        >>> import torch
        >>> from vla_kit.flow import StochasticEuler
        >>> field = lambda noisy, time: noisy
        >>> mask = torch.ones(4, 2, 3, dtype=torch.bool)
        >>> path = StochasticEuler(steps=4).sample(field, torch.randn(4, 2, 3), mask)
        >>> path[torch.tensor([2, 0])].before.shape
        torch.Size([2, 1, 2, 3])
    """

    actions: Float[Tensor, "batch horizon channel"]
    before: Float[Tensor, "batch transition horizon channel"]
    after: Float[Tensor, "batch transition horizon channel"]
    step: Int[Tensor, "batch transition"]
    log_prob: Float[Tensor, "batch transition"]

    def __len__(self) -> int:
        return self.actions.shape[0]

    def __getitem__(self, rows: slice | Int[Tensor, " rows"] | Bool[Tensor, " batch"]) -> "StochasticPath":
        """Some chunks: a slice, indices, or one truth value per chunk."""
        return StochasticPath(**{part.name: getattr(self, part.name)[rows] for part in fields(self)})

    def to(self, device: torch.device | str) -> "StochasticPath":
        """The same on another device."""
        return StochasticPath(**{part.name: getattr(self, part.name).to(device) for part in fields(self)})

    @staticmethod
    def cat(paths: Sequence["StochasticPath"]) -> "StochasticPath":
        """The chunks of several paths, in order.

        Args:
            paths: At least one, all with the same number of transitions per chunk.

        Raises:
            SettingError: If there is none.
        """
        if not paths:
            raise SettingError("paths must hold at least one path, got none. Sample first.")
        parts = (part.name for part in fields(StochasticPath))
        return StochasticPath(**{name: torch.cat([getattr(path, name) for path in paths]) for name in parts})
