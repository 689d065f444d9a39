"""What the datamodules share: the module in training, and loaders over a mixture that know where they stand."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from vla_kit.data.any_sample import AnySample
from vla_kit.data.collate import Batch
from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.data.lazy_parts import LazyParts, Part
from vla_kit.data.mixture import Mixture
from vla_kit.data.resumable_loader import ResumableLoader
from vla_kit.data.shares import Shares
from vla_kit.data.split import split_episodes
from vla_kit.errors import SettingError

if TYPE_CHECKING:
    from vla_kit.training.vla_module import VLAModule

__all__ = ["Loading", "module_of", "trainer_of"]

_Collate = Callable[[Sequence[AnySample]], Batch]


def trainer_of(data: LightningDataModule) -> Trainer:
    """The trainer that uses `data`."""
    if data.trainer is None:
        raise SettingError("datamodule must be given to a Trainer, got none. Call Trainer.fit(module, datamodule=...).")
    return data.trainer


def module_of(data: LightningDataModule) -> "VLAModule":
    """The module that trains on `data`; it writes the prompts and prepares the pictures."""
    module: Any = trainer_of(data).lightning_module
    if not hasattr(module, "prompter"):
        raise SettingError(
            f"module must have prompter, backbone and channels, got {type(module).__name__}. "
            "Call Trainer.fit(VLAModule(...), datamodule=...)."
        )
    trained: VLAModule = module
    return trained


class Loading:
    """Loaders of a datamodule. The position in the mixture outlives them, and goes into the checkpoint.

    Args:
        sets: Data sets of the mixture, for checks.
        batch_size: Samples per batch (and process).
        samples_per_epoch: Samples per epoch, of all processes; None as the datamodules say.
        shares: Rule of the mixture; weights as given where None.
        validation_share: Share of the episodes of each set that validates, for checks.
        open_sets: Data sets that are open at a time, in each process that loads.
        num_workers: Processes that load.
        seed: Of the order.

    Raises:
        SettingError: If there is no set, or a number is out of range.
    """

    def __init__(
        self,
        sets: Sequence[DemonstrationSet],
        *,
        batch_size: int,
        samples_per_epoch: int | None,
        shares: Shares | None,
        validation_share: float,
        open_sets: int,
        num_workers: int,
        seed: int,
    ) -> None:
        if not sets:
            raise SettingError("sets must hold at least one DemonstrationSet, got none. List the data to train on.")
        if batch_size < 1:
            raise SettingError(f"batch_size must be at least 1, got {batch_size}. Use 64.")
        if samples_per_epoch is not None and samples_per_epoch < 1:
            raise SettingError(f"samples_per_epoch must be at least 1, got {samples_per_epoch}. Leave it out for all.")
        for name, value, least in (("open_sets", open_sets, 1), ("num_workers", num_workers, 0), ("seed", seed, 0)):
            if value < least:
                raise SettingError(f"{name} must be at least {least}, got {value}. Leave it out for the default.")
        split_episodes(range(1), validation_share, seed=seed)
        self.batch_size = batch_size
        self.samples_per_epoch = samples_per_epoch
        self.shares = shares
        self.open_sets = open_sets
        self.num_workers = num_workers
        self.seed = seed
        self._loader: ResumableLoader | None = None
        self._restored: Mapping[str, Any] = {}

    @property
    def needs_tasks(self) -> bool:
        """Whether each sentence is a part of its own."""
        return self.shares is not None and self.shares.needs_tasks()

    def families(self, parts: Sequence[Part]) -> dict[str, str | None]:
        """Data set -> its family, where the rule of the mixture names one."""
        known: Mapping[str, str] = getattr(self.shares, "families", {})
        return {part.dataset: known.get(part.dataset) for part in parts}

    def training(self, parts: Sequence[Part], collate: _Collate, trainer: Trainer) -> ResumableLoader:
        """Batches of the mixture, from where the run stands."""
        settings: Any = trainer  # which does not declare it
        if settings.overfit_batches:
            raise SettingError(
                f"trainer.overfit_batches must be 0, got {settings.overfit_batches}: the mixture never repeats a "
                "batch. Set num_episodes of each set to 1."
            )
        mixture = Mixture(
            parts,
            weights=None if self.shares is None else self.shares.weights(parts),
            seed=self.seed,
            open_sets=self.open_sets,
        )
        loader = ResumableLoader(
            mixture,
            collate=collate,
            batch_size=self.batch_size,
            num_batches=self._num_batches(trainer, len(mixture)),
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
        )
        if position := self.state_dict():
            loader.load_state_dict(position)
        self._loader = loader
        return loader

    def validation(self, parts: Sequence[Part], collate: _Collate) -> DataLoader[Batch]:
        """Batches in order, loaded in the training process, for validation is short."""
        loader: Any = DataLoader(  # whose type is that of the items, not of what collate makes of them
            LazyParts(parts, open_sets=self.open_sets),
            batch_size=self.batch_size,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
        )
        batches: DataLoader[Batch] = loader
        return batches

    def begin(self) -> None:
        """Forget the position of a run before."""
        self._loader, self._restored = None, {}

    def end(self) -> None:
        """Stop the processes that load; the position stays known."""
        if self._loader is not None:
            self._loader.close()

    def state_dict(self) -> dict[str, Any]:
        """Position of the training loader; empty before there is one."""
        return dict(self._restored) if self._loader is None else self._loader.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Where the next training loader begins.

        Lightning gives a loader its state back as well, but too late or never where a run counts epochs: before the
        state is read the loader is made to count its batches, and after a whole epoch none is read.
        """
        self._restored = dict(state_dict)

    def _num_batches(self, trainer: Trainer, items: int) -> int:
        samples = self.samples_per_epoch
        if samples is None and trainer.max_steps > 0:
            return trainer.max_steps * trainer.accumulate_grad_batches
        return math.ceil((items if samples is None else samples) / (self.batch_size * trainer.world_size))
