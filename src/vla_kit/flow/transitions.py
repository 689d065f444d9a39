"""Gaussian steps of a sampler: their density, their entropy and how far two of them are apart, over real entries."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["GaussianTransitions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GaussianTransitions:
    """Where a sampler's noisy steps lead: one normal law per entry, independent given where the step began.

    All sums are over the real entries of a chunk. Padding never counts, whatever it holds, NaN included.

    Args:
        mean: Mean of the point after each step.
        std: Standard deviation of the same, above 0 at real entries.
        mask: True where an action entry is real.

    Examples:
        >>> import torch
        >>> step = GaussianTransitions(
        ...     mean=torch.zeros(1, 1, 2, 1), std=torch.ones(1, 1, 2, 1), mask=torch.tensor([[[True], [False]]])
        ... )
        >>> step.log_prob(torch.zeros(1, 1, 2, 1))  # -log(2 pi) / 2
        tensor([[-0.9189]])
    """

    mean: Float[Tensor, "batch transition horizon channel"]
    std: Float[Tensor, "batch transition horizon channel"]
    mask: Bool[Tensor, "batch horizon channel"]

    def log_prob(self, after: Float[Tensor, "batch transition horizon channel"]) -> Float[Tensor, "batch transition"]:
        """Log-density of `after`: the sum over real entries, in nats.

        It is the density itself, neither its mean over entries nor over steps, so that a ratio of two is a ratio of
        densities. Of several transitions of one chunk, the sum is the log-density of the whole path.
        """
        std = self._real(self.std, 1)
        scaled = (self._real(after, 0) - self._real(self.mean, 0)) / std
        return self._total(-0.5 * scaled.square() - std.log() - 0.5 * math.log(2 * math.pi))

    def entropy(self) -> Float[Tensor, "batch transition"]:
        """Differential entropy: the sum over real entries, in nats."""
        return self._total(self._real(self.std, 1).log() + 0.5 * math.log(2 * math.pi * math.e))

    def kl(self, reference: "GaussianTransitions") -> Float[Tensor, "batch transition"]:
        """Kullback-Leibler divergence of these steps from those of `reference`, KL(self || reference), in nats.

        Args:
            reference: Steps of another policy from the same points.
        """
        std, other = self._real(self.std, 1), self._real(reference.std, 1)
        apart = (self._real(self.mean, 0) - self._real(reference.mean, 0)).square()
        return self._total((other / std).log() + (std.square() + apart) / (2 * other.square()) - 0.5)

    def _real(self, values: Tensor, filler: float) -> Tensor:
        """Values at least as exact as float32, with `filler` in padding, before any arithmetic."""
        return torch.where(self.mask[:, None], values, filler).to(torch.promote_types(values.dtype, torch.float32))

    def _total(self, entries: Tensor) -> Tensor:
        return torch.where(self.mask[:, None], entries, 0).sum((-2, -1))
