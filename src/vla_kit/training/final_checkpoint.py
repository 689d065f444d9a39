"""A checkpoint of the end of a run, wherever between two checkpoints it comes."""

from lightning.pytorch import Callback, LightningModule, Trainer

from vla_kit.errors import SettingError

__all__ = ["FinalCheckpoint"]


class FinalCheckpoint(Callback):
    """Saves where training ends, unless that step is saved anyway.

    List it before callbacks that change the model when training ends, such as weight averaging, which leaves the
    average in place of the weights that learn: a run goes on from the latter, so the file has to hold both.

    Args:
        path: File to write or replace.
        every_n_train_steps: Steps between two checkpoints that another callback writes to the same place; None or 0 for
            one that writes none by steps.

    Raises:
        SettingError: If `path` is empty or `every_n_train_steps` is negative.

    Examples:
        ```
        every = ModelCheckpoint("runs/checkpoints", filename="last", every_n_train_steps=500)
        end = FinalCheckpoint("runs/checkpoints/last.ckpt", every_n_train_steps=500)
        Trainer(max_steps=1200, callbacks=[end, EMAWeightAveraging(), every])  # saved at 500, 1000 and 1200
        ```
    """

    def __init__(self, path: str, *, every_n_train_steps: int | None = None) -> None:
        if not path:
            raise SettingError("path must be a file, got ''. Use runs/checkpoints/last.ckpt.")
        if every_n_train_steps is not None and every_n_train_steps < 0:
            raise SettingError(f"every_n_train_steps must be at least 0, got {every_n_train_steps}. Use 0 for none.")
        self.path = path
        self.every_n_train_steps = every_n_train_steps

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save; every process comes here."""
        if not (self.every_n_train_steps and trainer.global_step % self.every_n_train_steps == 0):
            trainer.save_checkpoint(self.path, weights_only=False)
