"""A run whose numbers have left what a float can hold ends, before they reach the weights."""

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from vla_kit.errors import NonFiniteError, SettingError

__all__ = ["FiniteGradients"]


class FiniteGradients(Callback):
    """Stops a run when a gradient is inf or NaN, as it is where the loss is; the step is not taken.

    Without a gradient scaler (every precision but `16-mixed`) the first such step ends the run. With one, a step that
    overflows is skipped and the scale halved, which is how the scaler finds its scale; `patience` skipped steps in a
    row end the run, for then no scale helps. The command line gives this callback to every run. It reads one number per
    optimiser step. DeepSpeed keeps gradients to itself and watches its own.

    Args:
        patience: Skipped steps in a row after which a run with a gradient scaler ends, at least 1.

    Raises:
        SettingError: If `patience` is below 1.

    Examples:
        >>> FiniteGradients(patience=10).patience
        10
    """

    def __init__(self, patience: int = 25) -> None:
        if patience < 1:
            raise SettingError(f"patience must be at least 1, got {patience}. Use 25.")
        self.patience = patience
        self._skipped = 0

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Look at the gradients of all micro-batches, unscaled and not yet clipped.

        Raises:
            NonFiniteError: If the run must end; the text names parameters and remedy.
        """
        gradients = [
            parameter.grad
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        largest: Any = get_total_norm(gradients, norm_type=math.inf)
        if hasattr(largest, "full_tensor"):  # gradients divided among processes
            largest = largest.full_tensor()
        if largest.isfinite():
            self._skipped = 0
            return
        self._skipped += 1
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        if scaled and self._skipped < self.patience:
            return
        broken = [
            name
            for name, parameter in pl_module.named_parameters()
            if parameter.grad is not None and not parameter.grad.isfinite().all()
        ]
        when = f"in {self._skipped} steps in a row up to step" if scaled else "in step"
        raise NonFiniteError(
            f"gradients must be finite, got inf or NaN in {len(broken)} parameters, such as {broken[0]}, {when} "
            f"{trainer.global_step} with precision {trainer.precision}. {_remedy(str(trainer.precision))}"
        )


def _remedy(precision: str) -> str:
    if precision.startswith("16"):
        return "float16 ends at 65504: train with --trainer.precision bf16-mixed."
    return (
        "Lower the learning rates or lengthen the warm-up, and clip with --trainer.gradient_clip_val 1.0; "
        "where the first steps fail, look for inf or NaN in the data."
    )
