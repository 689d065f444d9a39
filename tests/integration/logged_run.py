"""The command line, with the digest of every batch written down as it trains; run as a script."""

import hashlib
import os
from pathlib import Path

from lightning.pytorch import Callback

from vla_kit.cli import VLACLI


class LogBatches(Callback):
    """Appends a line per training batch: its digest and its loss, to the last bit."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        digest = hashlib.sha256("".join(batch.instructions).encode())
        for tensor in (
            batch.actions.values,
            batch.actions.mask,
            *(t for _, t in sorted(batch.backbone_inputs.items())),
        ):
            digest.update(tensor.contiguous().numpy().tobytes())
        path = Path(f"{os.environ['BATCH_LOG']}.{trainer.global_rank}")
        with path.open("a") as file:
            file.write(f"{digest.hexdigest()[:16]} {float(outputs['loss']).hex()}\n")


if __name__ == "__main__":
    VLACLI()
