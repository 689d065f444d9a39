"""What the datamodules share: the module in training, and its loaders."""

from collections.abc import Sequence, Sized
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import ConcatDataset, DataLoader, Dataset, WeightedRandomSampler

from vla_kit.data.collate import Batch, Collate
from vla_kit.data.sample import Sample
from vla_kit.errors import SettingError
from vla_kit.training.mixture import mixture_weights

if TYPE_CHECKING:
    from vla_kit.training.vla_module import VLAModule

__all__ = ["module_of", "trainer_of", "training_loader", "validation_loader"]


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


def training_loader(
    parts: Sequence[Dataset[Sample]],
    shares: Sequence[float],
    *,
    collate: Collate,
    trainer: Trainer,
    batch_size: int,
    samples: int | None,
    num_workers: int,
) -> DataLoader[Batch]:
    """Shuffled batches, every data set in proportion to its share."""
    weights = mixture_weights([cast(Sized, part) for part in parts], shares)
    if samples is None:
        run = trainer.max_steps * trainer.accumulate_grad_batches * batch_size * trainer.world_size
        samples = run if run > 0 else len(weights)
    sampler = WeightedRandomSampler(weights.tolist(), num_samples=samples)
    loader: Any = DataLoader(  # whose type is that of the items, not of what collate makes of them
        ConcatDataset(parts),
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=collate,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
    batches: DataLoader[Batch] = loader
    return batches


def validation_loader(dataset: Dataset[Sample], *, collate: Collate, batch_size: int) -> DataLoader[Batch]:
    """Batches in order, loaded in the training process: validation is short."""
    loader: Any = DataLoader(dataset, batch_size=batch_size, collate_fn=collate, pin_memory=torch.cuda.is_available())
    batches: DataLoader[Batch] = loader
    return batches
