"""Success rate of episodes, with its interval."""

import torch
from jaxtyping import Bool
from torch import Tensor
from torchmetrics import Metric

from vla_kit.errors import DtypeError, SettingError, ShapeError
from vla_kit.metrics.intervals import wilson_interval

__all__ = ["SuccessRate"]


class SuccessRate(Metric):
    """Share of episodes that succeeded, with Wilson's interval; sums over processes.

    `compute` returns `rate`, `low`, `high` and `trials` as tensors; without trials the first three are NaN.

    Args:
        confidence: Share of intervals that cover the true rate, in (0, 1).

    Raises:
        SettingError: If `confidence` does not lie in (0, 1).

    Examples:
        >>> metric = SuccessRate()
        >>> metric.update(torch.tensor([True, True, False, True]))
        >>> {name: round(value.item(), 4) for name, value in metric.compute().items()}
        {'rate': 0.75, 'low': 0.3006, 'high': 0.9544, 'trials': 4}

    Source:
        Qwen-VLA, arXiv 2605.30280, section 4: success rates over episodes. The interval is ours.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    successes: Tensor
    trials: Tensor

    def __init__(self, *, confidence: float = 0.95) -> None:
        super().__init__()
        if not 0 < confidence < 1:
            raise SettingError(f"confidence must lie in (0, 1), got {confidence}. Use 0.95.")
        self.confidence = confidence
        self.add_state("successes", default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("trials", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, success: Bool[Tensor, " batch"]) -> None:
        """Count episodes.

        Args:
            success: True where an episode succeeded.

        Raises:
            DtypeError: If `success` is not bool.
            ShapeError: If it is not one-dimensional.
        """
        if success.dtype != torch.bool:
            raise DtypeError(f"success must be bool, got {success.dtype}. Compare the rate with a threshold first.")
        if success.ndim != 1:
            raise ShapeError(f"success must have the shape (batch,), got {tuple(success.shape)}. Give one per episode.")
        self.successes = self.successes + success.sum()
        self.trials = self.trials + success.numel()

    def compute(self) -> dict[str, Tensor]:
        """Rate with the ends of its interval, and the number of trials."""
        successes, trials = int(self.successes), int(self.trials)
        if trials == 0:
            rate, low, high = (float("nan"),) * 3
        else:
            rate = successes / trials
            low, high = wilson_interval(successes, trials, confidence=self.confidence)
        device = self.trials.device
        values = {name: torch.tensor(value, device=device) for name, value in (("rate", rate), ("low", low))}
        return {**values, "high": torch.tensor(high, device=device), "trials": self.trials.clone()}
