"""What a run is doing: what learns, at which rates, and how often it saw each robot, data set and family."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
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

_ROBOTS, _SETS = "samples_seen", "samples_seen_by_set"


class RunStatus(Callback):
    """Keeps `status.json` in the folder of a run: what is frozen, the learning rates now, the samples seen.

    The file is replaced at the start, every so many steps and at the end, so it can be read at any time; a line at the
    start says what learns. Samples are counted per robot, per data set and, where the shares of the mixture name
    families (`FamilyShares`), per family. Counts are over all processes; those of robots and families are logged as
    `seen/<embodiment>` and `seen_family/<family>`. They are kept in the checkpoint (`samples_seen`,
    `samples_seen_by_set`), so they go on with a resumed run. What was not seen is named with 0.

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
        self._seen = {_ROBOTS: _Seen(), _SETS: _Seen()}
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
        self._seen[_ROBOTS].here.update(batch.embodiments)
        self._seen[_SETS].here.update(batch.datasets)
        if trainer.global_step % self.every_n_steps == 0 and trainer.global_step != self._written:
            self._write(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: VLAModule) -> None:  # type: ignore[override]  # of VLAModule alone
        """Write the file."""
        self._write(trainer, pl_module)

    def on_save_checkpoint(  # type: ignore[override]  # of VLAModule alone
        self, trainer: Trainer, pl_module: VLAModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the counts; every process comes here."""
        checkpoint.update(self._counts(trainer, pl_module))

    def on_load_checkpoint(  # type: ignore[override]  # of VLAModule alone
        self, trainer: Trainer, pl_module: VLAModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on from the counts of the checkpoint, where it has any."""
        self._seen = {key: _Seen(checkpoint.get(key, {})) for key in (_ROBOTS, _SETS)}

    def _counts(self, trainer: Trainer, pl_module: VLAModule) -> dict[str, dict[str, int]]:
        """Samples of each robot and of each data set, over all processes and the runs before."""
        names = {_ROBOTS: pl_module.prompter.names, _SETS: tuple(_families(trainer))}
        return {key: seen.total(names[key], trainer, pl_module.device) for key, seen in self._seen.items()}

    def _write(self, trainer: Trainer, pl_module: VLAModule) -> None:
        self._written = trainer.global_step
        counts = self._counts(trainer, pl_module)
        families = Counter[str]()
        for name, family in _families(trainer).items():
            if family is not None:
                families[family] += counts[_SETS].get(name, 0)
        logged: dict[str, float] = {f"seen/{name}": count for name, count in counts[_ROBOTS].items()}
        logged |= {f"seen_family/{name}": count for name, count in families.items()}
        for logger in trainer.loggers:
            logger.log_metrics(logged, step=trainer.global_step)
        if not trainer.is_global_zero or "://" in str(trainer.default_root_dir):
            return
        total = sum(counts[_SETS].values()) or sum(counts[_ROBOTS].values())  # conversations are of no robot
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
            "seen": _with_shares(counts[_ROBOTS], total),
            "seen_families": _with_shares(families, total),
            "seen_sets": _with_shares(counts[_SETS], total),
        }
        place = Path(trainer.default_root_dir) / "status.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name("status.json.partial")
        partial.write_text(json.dumps(status, indent=2) + "\n", encoding="utf-8")
        partial.replace(place)


class _Seen:
    """Samples by name: those of the runs before, and those of this process."""

    def __init__(self, before: Mapping[str, int] | None = None) -> None:
        self.before = Counter(before or {})
        self.here = Counter[str]()

    def total(self, names: Sequence[str], trainer: Trainer, device: torch.device) -> dict[str, int]:
        """Samples of each name over all processes; a name that only the runs before knew stays."""
        here = torch.tensor([self.here[name] for name in names], dtype=torch.long, device=device)
        total: Any = trainer.strategy.reduce(here, reduce_op="sum")
        counts = {name: self.before[name] + int(count) for name, count in zip(names, total.tolist(), strict=True)}
        return {**self.before, **counts}


def _families(trainer: Trainer) -> Mapping[str, str | None]:
    """Data set -> its family, if the datamodule knows its sets."""
    data: Any = getattr(trainer, "datamodule", None)
    families: Mapping[str, str | None] = getattr(data, "families", {})
    return families


def _with_shares(counts: Mapping[str, int], total: int) -> dict[str, dict[str, float]]:
    return {
        name: {"samples": count, "share": round(count / total, 4) if total else 0.0} for name, count in counts.items()
    }


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
