"""Scores of navigation over episodes: SR, OSR, SPL, NE, trajectory length, nDTW and SDTW."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torchmetrics import Metric

from vla_kit.metrics.navigation import NavigationEpisode

__all__ = ["NavigationScores"]

_SCORES: Final = (
    "success",
    "oracle_success",
    "spl",
    "navigation_error_m",
    "trajectory_length_m",
    "ndtw",
    "sdtw",
)


class NavigationScores(Metric):
    """Means over episodes; sums over processes.

    `compute` returns `success` (SR), `oracle_success` (OSR), `spl`, `navigation_error_m` (NE), `trajectory_length_m`
    (TL), `ndtw` and `sdtw` over the episodes that have a reference, and `episodes`, their number. Without episodes the
    means are NaN.

    Examples:
        >>> scores = NavigationScores()
        >>> near = NavigationEpisode(distance_m=1.0, nearest_m=0.5, length_m=12.0, shortest_m=9.0, stopped=True)
        >>> late = NavigationEpisode(distance_m=1.0, nearest_m=1.0, length_m=12.0, shortest_m=9.0, stopped=False)
        >>> scores.update([near, late])
        >>> found = scores.compute()
        >>> found["success"].item(), found["oracle_success"].item(), found["spl"].item()
        (0.5, 1.0, 0.375)

    Source:
        Qwen-VLA, arXiv 2605.30280, table 7, reports NE, OS, SR, SPL and, on RxR, nDTW; see `NavigationEpisode`.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None
    sums: Tensor
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        zeros = torch.zeros(len(_SCORES), dtype=torch.float64)
        self.add_state("sums", default=zeros.clone(), dist_reduce_fx="sum")
        self.add_state("counts", default=zeros, dist_reduce_fx="sum")

    def update(self, episodes: Sequence[NavigationEpisode]) -> None:
        """Add episodes.

        Args:
            episodes: Each with or without a reference.
        """
        for episode in episodes:
            values = [episode.scores[name] for name in _SCORES]
            known = [0.0 if value is None else value for value in values]
            counted = [float(value is not None) for value in values]
            # A model moved to bfloat16 takes its metrics along; sums stay float64.
            self.sums = self.sums.double() + torch.tensor(known, dtype=torch.float64, device=self.sums.device)
            self.counts = self.counts.double() + torch.tensor(counted, dtype=torch.float64, device=self.sums.device)

    def compute(self) -> dict[str, Tensor]:
        """Mean of each score, and the number of episodes."""
        means = self.sums / self.counts  # 0 / 0 = NaN: no episode
        scores = dict(zip(_SCORES, means, strict=True))
        return {**scores, "episodes": self.counts[0].clone()}
