"""Demonstrations with pictures for `VLAModule`: chunks of several data sets, mixed in every batch."""

from collections.abc import Sequence

from lightning.pytorch import LightningDataModule
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from vla_kit.actions import QuantileStats
from vla_kit.data.collate import Batch, Collate
from vla_kit.data.sample import Sample
from vla_kit.data.windows import ChunkDataset
from vla_kit.errors import SettingError
from vla_kit.training._loading import module_of, trainer_of, training_loader, validation_loader
from vla_kit.training.demonstration_set import DemonstrationSet, merged_statistics, split_episodes

__all__ = ["DemonstrationDataModule"]


class DemonstrationDataModule(LightningDataModule):
    """Pictures, words and the chunk of actions that follows, from several robots.

    Chunks are as long as the prompt says: the `chunk_size` of each robot. Prompter, image preprocessing and padded
    width are those of the module in training, which also gets the statistics of the data before it trains.

    Args:
        sets: Data sets of the mixture.
        batch_size: Samples per batch (and process).
        samples_per_epoch: Draws per epoch. Where None, an epoch is the whole run if the trainer counts steps, so that
            its progress bar shows the time left, and the number of frames otherwise.
        validation_share: Share of the episodes of each set that validates and never trains, in [0, 1).
        validation_stride: Frames between validation samples.
        augment: Changes stacks of uint8 pictures in training, such as `vla_kit.data.augment.RandomShift`.
        num_workers: Processes that load; 0 loads in the training process.
        seed: Of the split.

    Raises:
        SettingError: If there is no set, or a number is out of range.

    Source:
        Qwen-VLA, arXiv 2605.30280, sections 2.5 (mixture in every batch) and 4.1. Augmentation and split are ours.
    """

    def __init__(
        self,
        *,
        sets: Sequence[DemonstrationSet],
        batch_size: int = 64,
        samples_per_epoch: int | None = None,
        validation_share: float = 0.05,
        validation_stride: int = 4,
        augment: nn.Module | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not sets:
            raise SettingError("sets must hold at least one DemonstrationSet, got none. List the data to train on.")
        if batch_size < 1:
            raise SettingError(f"batch_size must be at least 1, got {batch_size}. Use 64.")
        self.sets = list(sets)
        self.batch_size = batch_size
        self.samples_per_epoch = samples_per_epoch
        self.validation_share = validation_share
        self.validation_stride = validation_stride
        self.augment = augment
        self.num_workers = num_workers
        self.seed = seed
        self._train: list[Dataset[Sample]] = []
        self._validation: list[Dataset[Sample]] = []
        self._statistics: dict[str, QuantileStats] = {}

    def setup(self, stage: str) -> None:
        """Open the data sets once and, before training, give the module their statistics."""
        module = module_of(self)
        if not self._train:
            readers = [one.open() for one in self.sets]
            self._statistics = merged_statistics(readers)
            for one, reader in zip(self.sets, readers, strict=True):
                horizon = module.prompter.spec(one.embodiment).chunk_size
                train, validation = split_episodes(one.episodes(reader), self.validation_share, seed=self.seed)
                self._train.append(ChunkDataset(reader, horizon=horizon, stride=one.stride, episodes=train))
                if validation:
                    self._validation.append(
                        ChunkDataset(reader, horizon=horizon, stride=self.validation_stride, episodes=validation)
                    )
        if stage == "fit":
            for name, stats in self._statistics.items():
                module.add_statistics(name, stats)

    def statistics(self) -> dict[str, QuantileStats]:
        """Embodiment -> statistics of all its frames, once the data are set up."""
        return dict(self._statistics)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Samples of all sets, drawn in proportion to their weights."""
        return training_loader(
            self._train,
            [one.weight for one in self.sets],
            collate=self._collate(training=True),
            trainer=trainer_of(self),
            batch_size=self.batch_size,
            samples=self.samples_per_epoch,
            num_workers=self.num_workers,
        )

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Samples of the held-out episodes, in order; nothing where no episode is held out."""
        if not self._validation:
            return []
        return validation_loader(
            ConcatDataset(self._validation), collate=self._collate(training=False), batch_size=self.batch_size
        )

    def test_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """As validation."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """As validation."""
        return self.val_dataloader()

    def _collate(self, *, training: bool) -> Collate:
        module = module_of(self)
        return Collate(
            module.prepare,
            prompter=module.prompter,
            channels=module.channels,
            augment=self.augment if training else None,
        )
