"""Demonstrations without pictures for `VLAModule`: sentences and whole trajectories (text to action, T2A)."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from lightning.pytorch import LightningDataModule
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from vla_kit.actions import QuantileStats
from vla_kit.data.collate import Batch, Collate
from vla_kit.data.episodes import EpisodeReader
from vla_kit.data.sample import Sample
from vla_kit.data.windows import TrajectoryDataset
from vla_kit.errors import SettingError
from vla_kit.training._loading import module_of, trainer_of, training_loader, validation_loader
from vla_kit.training.demonstration_set import DemonstrationSet, merged_statistics, split_episodes

__all__ = ["TextToActionDataModule"]


class TextToActionDataModule(LightningDataModule):
    """Sentences and the whole trajectories that they led to; no picture is read.

    The prompt announces the length of the trajectory as its chunk. Prompter and padded width are those of the module
    in training, which also gets the statistics of the data before it trains.

    Args:
        sets: Data sets of the mixture; their views are left alone.
        batch_size: Trajectories per batch (and process).
        horizon: Padded length; that of the longest trajectory where None. Longer trajectories are left out.
        samples_per_epoch: Draws per epoch. Where None, an epoch is the whole run if the trainer counts steps, so that
            its progress bar shows the time left, and the number of trajectories otherwise.
        validation_share: Share of the episodes of each set that validates and never trains, in [0, 1).
        num_workers: Processes that load; 0 loads in the training process.
        seed: Of the split.

    Raises:
        SettingError: If there is no set, a number is out of range, or `horizon` leaves no trajectory of a set.

    Source:
        Qwen-VLA, arXiv 2605.30280, sections 3.1 and 5.2.1: text alone, full sequences. Their length is not published.
    """

    def __init__(
        self,
        *,
        sets: Sequence[DemonstrationSet],
        batch_size: int = 64,
        horizon: int | None = None,
        samples_per_epoch: int | None = None,
        validation_share: float = 0.05,
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
        self.horizon = horizon
        self.samples_per_epoch = samples_per_epoch
        self.validation_share = validation_share
        self.num_workers = num_workers
        self.seed = seed
        self._train: list[Dataset[Sample]] = []
        self._validation: list[Dataset[Sample]] = []
        self._statistics: dict[str, QuantileStats] = {}

    def setup(self, stage: str) -> None:
        """Open the data sets once and, before training, give the module their statistics."""
        module = module_of(self)
        if not self._train:
            readers = [one.open(with_views=False) for one in self.sets]
            self._statistics = merged_statistics(readers)
            chosen = [_fitting(one, reader, self.horizon) for one, reader in zip(self.sets, readers, strict=True)]
            lengths = [reader.episode(i).length for reader, some in zip(readers, chosen, strict=True) for i in some]
            horizon = self.horizon if self.horizon is not None else max(lengths)
            for reader, episodes in zip(readers, chosen, strict=True):
                train, validation = split_episodes(episodes, self.validation_share, seed=self.seed)
                self._train.append(
                    _Prompted(TrajectoryDataset(reader, horizon=horizon, episodes=train), module.prompter)
                )
                if validation:
                    held_out = TrajectoryDataset(reader, horizon=horizon, episodes=validation)
                    self._validation.append(_Prompted(held_out, module.prompter))
        if stage == "fit":
            for name, stats in self._statistics.items():
                module.add_statistics(name, stats)

    def statistics(self) -> dict[str, QuantileStats]:
        """Embodiment -> statistics of all its frames, once the data are set up."""
        return dict(self._statistics)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Trajectories of all sets, drawn in proportion to their weights."""
        return training_loader(
            self._train,
            [one.weight for one in self.sets],
            collate=self._collate(),
            trainer=trainer_of(self),
            batch_size=self.batch_size,
            samples=self.samples_per_epoch,
            num_workers=self.num_workers,
        )

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """The held-out trajectories, in order; nothing where none is held out."""
        if not self._validation:
            return []
        return validation_loader(ConcatDataset(self._validation), collate=self._collate(), batch_size=self.batch_size)

    def test_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """As validation."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """As validation."""
        return self.val_dataloader()

    def _collate(self) -> Collate:
        module = module_of(self)
        return Collate(module.prepare, prompter=_already_prompted, channels=module.channels)


class _Prompted(Dataset[Sample]):
    """Puts the whole prompt in place of the instruction: only here is the length of a trajectory known."""

    def __init__(self, samples: TrajectoryDataset, prompter: Callable[[str, str, int], str]) -> None:
        self.samples = samples
        self.prompter = prompter

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, item: int) -> Sample:
        sample = self.samples[item]
        prompt = self.prompter(sample.embodiment, sample.instruction, int(sample.valid.sum()))
        return replace(sample, instruction=prompt)


def _already_prompted(embodiment: str, prompt: str) -> str:
    return prompt


def _fitting(one: DemonstrationSet, reader: EpisodeReader, horizon: int | None) -> list[int]:
    episodes = one.episodes(reader)
    fitting = [index for index in episodes if horizon is None or reader.episode(index).length <= horizon]
    if not fitting:
        shortest = min(reader.episode(index).length for index in episodes)
        raise SettingError(
            f"horizon must be at least the length of some trajectory of {one.root}, got {horizon} and a shortest of "
            f"{shortest}. Raise horizon, or leave it out."
        )
    return fitting
