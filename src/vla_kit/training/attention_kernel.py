"""Which implementation of attention PyTorch uses while a run lasts."""

from contextlib import AbstractContextManager
from typing import Final

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn.attention import SDPBackend, sdpa_kernel

from vla_kit.errors import SettingError

__all__ = ["AttentionKernel"]

_KERNELS: Final = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}


class AttentionKernel(Callback):
    """Restrict `scaled_dot_product_attention` to one implementation from the start of a run to its end.

    PyTorch's own choice is right on GPUs. On a CPU it takes the fused one, whose backward pass in bfloat16 was slower
    for the short sequences of small models than plain matrix products (`math`). Of several in one trainer the last
    one counts, as later configurations override earlier ones.

    Args:
        kernel: `math`, `flash`, `efficient` or `cudnn`.

    Raises:
        SettingError: If `kernel` is another word.

    Examples:
        >>> AttentionKernel("math").kernel
        'math'
    """

    def __init__(self, kernel: str) -> None:
        if kernel not in _KERNELS:
            raise SettingError(
                f"kernel must be one of {sorted(_KERNELS)}, got {kernel!r}. 'math' suits small CPU runs."
            )
        self.kernel = kernel
        self._active: AbstractContextManager[None] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin the restriction."""
        callbacks: list[Callback] = getattr(trainer, "callbacks", [])  # Lightning sets it without declaring it
        if [callback for callback in callbacks if isinstance(callback, AttentionKernel)][-1] is not self:
            return
        active: AbstractContextManager[None] = sdpa_kernel(_KERNELS[self.kernel])
        active.__enter__()
        self._active = active

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """End the restriction."""
        if self._active is not None:
            self._active.__exit__(None, None, None)
            self._active = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End the restriction when the run fails."""
        self.teardown(trainer, pl_module, "exception")
