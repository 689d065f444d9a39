"""The same noise after a resume: draws of a training step depend on its number, not on the steps before."""

from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from vla_kit.errors import SettingError

__all__ = ["StepSeed"]


class StepSeed(Callback):
    """Seeds torch's generators, CPU and GPUs, at the start of each training batch.

    Lightning saves no random state. With this callback, noise, flow times and dropout of a step come from the seed, the
    rank and the number of the batch, so a run that goes on from a checkpoint draws what it would have drawn. Draws from
    numpy's or Python's generators are not covered.

    Args:
        seed: Of the run, at least 0.

    Raises:
        SettingError: If `seed` is negative.

    Examples:
        >>> StepSeed(7).state_dict()
        {'batches': 0}
    """

    def __init__(self, seed: int = 0) -> None:
        if seed < 0:
            raise SettingError(f"seed must be at least 0, got {seed}. Use 0.")
        self.seed = seed
        self._batches = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:  # noqa: ANN401 (Lightning's signature)
        """Seed for this batch."""
        drawn = np.random.SeedSequence((self.seed, trainer.global_rank, self._batches)).generate_state(1, np.uint64)
        torch.manual_seed(int(drawn[0]))
        self._batches += 1

    def state_dict(self) -> dict[str, Any]:
        """Batches that were begun."""
        return {"batches": self._batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after these batches."""
        self._batches = int(state_dict["batches"])
