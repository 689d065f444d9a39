"""What a run is doing: what learns, at which rates, and how often it saw each robot."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import nn

from vla_kit.data.collate import Batch
from vla_kit.errors import SettingError
from vla_kit.training.vla_module import VLAModule

__all__ = ["RunStatus", "frozen_modules"]

_KEY = "samples_seen"


class RunStatus(Callback):
    """Keeps `status.json` in the folder of a run: what is frozen, the learning rates now, the samples seen per robot.

    The file is replaced at the start, every so many steps and at the end, so it can be read at any time; a line at the
    start says what learns. Samples are counted over all processes, logged as `seen/<embodiment>` and kept in the
    checkpoint (`samples_seen`), so the counts go on with a resumed run. Robots that were not seen are named with 0.

    Args:
        every_n_steps: Optimiser steps between two writes, at least 1.

    Raises:
        SettingError: If `every_n_steps` is below 1.

    Examples:
        >>> RunStatus(every_n_steps=100).every_n_steps
        100
    """

    def __init__(self, *, every_n_steps: int = 50) -> None:
        if every_n_steps < 1:
            raise SettingError(f"every_n_steps must be at least 1, got {every_n_steps}. Use 50.")
        self.every_n_steps = every_n_steps
        self._before: Counter[str] = Counter()
        self._here: Counter[str] = Counter()
        self._written = -1

    def on_train_start(self, trainer: Trainer, pl_module: VLAModule) -> None:  # type: ignore[override]  # of VLAModule alone
        """Say what learns, and write the file."""
        for part, counts in _parts(pl_module).items():
            rank_zero_info(f"{part}: {counts['learning']:,} of {counts['parameters']:,} parameters learn")
        rank_zero_info(f"frozen: {', '.join(frozen_modules(pl_module)) or 'nothing'}")
        self._write(trainer, pl_module)

    def on_train_batch_end(  # type: ignore[override]  # of VLAModule alone
        self,
        trainer: Trainer,
        pl_module: VLAModule,
        outputs: Any,  # noqa: ANN401 (Lightning's signature)
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Count the batch."""
        self._here.update(batch.embodiments)
        if trainer.global_step % self.every_n_steps == 0 and trainer.global_step != self._written:
            self._write(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: VLAModule) -> None:  # type: ignore[override]  # of VLAModule alone
        """Write the file."""
        self._write(trainer, pl_module)

    def on_save_checkpoint(  # type: ignore[override]  # of VLAModule alone
        self, trainer: Trainer, pl_module: VLAModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the counts; every process comes here."""
        checkpoint[_KEY] = self._seen(trainer, pl_module)

    def on_load_checkpoint(  # type: ignore[override]  # of VLAModule alone
        self, trainer: Trainer, pl_module: VLAModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on from the counts of the checkpoint, where it has any."""
        self._before, self._here = Counter(checkpoint.get(_KEY, {})), Counter()

    def _seen(self, trainer: Trainer, pl_module: VLAModule) -> dict[str, int]:
        """Samples of each robot, over all processes and the runs before."""
        names = pl_module.prompter.names
        here = torch.tensor([self._here[name] for name in names], dtype=torch.long, device=pl_module.device)
        total: Any = trainer.strategy.reduce(here, reduce_op="sum")
        counts = {name: self._before[name] + int(count) for name, count in zip(names, total.tolist(), strict=True)}
        return {**self._before, **counts}  # a robot that only the runs before knew stays

    def _write(self, trainer: Trainer, pl_module: VLAModule) -> None:
        self._written = trainer.global_step
        seen = self._seen(trainer, pl_module)
        for logger in trainer.loggers:
            logger.log_metrics({f"seen/{name}": count for name, count in seen.items()}, step=trainer.global_step)
        if not trainer.is_global_zero or "://" in str(trainer.default_root_dir):
            return
        total = sum(seen.values())
        status = {
            "step": trainer.global_step,
            "samples": total,
            "parts": _parts(pl_module),
            "frozen": frozen_modules(pl_module),
            "learning_rates": {
                group.get("name", str(number)): group["lr"]
                for optimizer in trainer.optimizers
                for number, group in enumerate(optimizer.param_groups)
            },
            "seen": {
                name: {"samples": count, "share": round(count / total, 4) if total else 0.0}
                for name, count in seen.items()
            },
        }
        place = Path(trainer.default_root_dir) / "status.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name("status.json.partial")
        partial.write_text(json.dumps(status, indent=2) + "\n", encoding="utf-8")
        partial.replace(place)


def frozen_modules(module: nn.Module) -> list[str]:
    """Names of the largest modules that have parameters, none of which learns.

    Args:
        module: Whole model.

    Returns:
        Names in the model, without modules inside a named one; `""` stands for the whole model.

    Examples:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
        >>> _ = model[1].requires_grad_(False)
        >>> frozen_modules(model)
        ['1']
    """
    found: list[str] = []
    for name, part in module.named_modules():
        inside = any(outer == "" or name.startswith(f"{outer}.") for outer in found)
        parameters = list(part.parameters())
        if parameters and not inside and not any(entry.requires_grad for entry in parameters):
            found.append(name)
    return found


def _parts(module: nn.Module) -> dict[str, dict[str, int]]:
    """Parameters of each child, and those of them that learn."""
    counts = {}
    for name, child in module.named_children():
        entries = list(child.parameters())
        if entries:
            learning = sum(entry.numel() for entry in entries if entry.requires_grad)
            counts[name] = {"parameters": sum(entry.numel() for entry in entries), "learning": learning}
    return counts
