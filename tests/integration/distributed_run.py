"""The command line, with the loss of every step written down, and noise that does not ask who trains; a script.

One process that takes two batches per step sees what two processes see that take one batch each. It also draws what
they draw: its batch `b` is batch `b // 2` of rank `b % 2`.
"""

import os
from pathlib import Path

import torch
from lightning.pytorch import Callback

from vla_kit.cli import VLACLI
from vla_kit.training.step_seed import StepSeed


class LogLosses(Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        loss = float(outputs["loss"]) * trainer.accumulate_grad_batches
        with Path(f"{os.environ['LOSS_LOG']}.{trainer.global_rank}").open("a") as file:
            file.write(f"{loss!r}\n")


def seed_by_number(self, trainer, pl_module, batch, batch_idx):
    torch.manual_seed(self._batches * trainer.world_size + trainer.global_rank)
    self._batches += 1


if __name__ == "__main__":
    StepSeed.on_train_batch_start = seed_by_number
    VLACLI()
