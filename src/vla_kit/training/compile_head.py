"""The action head runs through torch.compile while a trainer uses it."""

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from vla_kit.errors import SettingError
from vla_kit.heads.compiled import compile_head
from vla_kit.training.vla_module import VLAModule

__all__ = ["CompileHead"]


class CompileHead(Callback):
    """Compiles the head of a `VLAModule` with `compile_head` when a run, validation or prediction begins.

    Names in checkpoints, averaged weights and resuming are those of a run without it; losses agree to rounding. The
    backbone stays as it is. Each new situation (training, validation, a batch of one) compiles once, which takes up to
    a minute on a CPU.

    Examples:
        >>> CompileHead().state_dict()
        {}
    """

    def setup(self, trainer: Trainer, pl_module: VLAModule, stage: str) -> None:  # type: ignore[override]  # of VLAModule alone
        """Compile; nothing happens where the head is compiled already.

        Raises:
            MissingToolError: If the machine has no compiler.
            SettingError: If the strategy divides weights among processes.
        """
        if not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy):
            raise SettingError(
                "strategy must be one device or ddp for CompileHead, got "
                f"{type(trainer.strategy).__name__}. Leave configs/callbacks/compile.yaml out, or train with ddp."
            )
        compile_head(pl_module.head)
