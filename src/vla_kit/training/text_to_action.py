"""Demonstrations without pictures for `VLAModule`: sentences and whole trajectories (text to action, T2A)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from vla_kit.actions import QuantileStats
from vla_kit.data.collate import Batch, Collate
from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.data.lazy_parts import Part
from vla_kit.data.resumable_loader import ResumableLoader
from vla_kit.data.sample import Sample
from vla_kit.data.shares import Shares
from vla_kit.data.split import split_episodes
from vla_kit.data.windows import TrajectoryDataset
from vla_kit.errors import SettingError
from vla_kit.training._loading import Loading, module_of, trainer_of
from vla_kit.training._statistics import RunStatistics, run_statistics
from vla_kit.training._survey import Survey, survey

__all__ = ["TextToActionDataModule"]


class TextToActionDataModule(LightningDataModule):
    """Sentences and the whole trajectories that they led to; no picture is read.

    The prompt announces the length of the trajectory as its chunk. Prompter and padded width are those of the module
    in training, which also gets the statistics of the data before it trains.

    Where the run stands in the mixture is part of the checkpoint; see `ResumableLoader` for what may change on resume.

    Args:
        sets: Data sets of the mixture; their views are left alone.
        batch_size: Trajectories per batch (and process).
        horizon: Padded length; that of the longest trajectory where None. Longer trajectories are left out.
        samples_per_epoch: Trajectories per epoch over all processes, rounded up to whole batches. Where None, an epoch
            is the whole run if the trainer counts steps, so that its progress bar shows the time left, and the number
            of trajectories otherwise.
        shares: How often each set, robot or task is drawn, such as `BalancedShares`; the sets' weights where None.
        validation_share: Share of the episodes of each set that validates and never trains, in [0, 1).
        num_workers: Processes that load; 0 loads in the training process.
        open_sets: Data sets that are open at a time in each process that loads. More cost memory, fewer cost time
            where there are more sets than that.
        seed: Of the split and of the order.

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
        shares: Shares | None = None,
        validation_share: float = 0.05,
        num_workers: int = 0,
        open_sets: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if horizon is not None and horizon < 1:
            raise SettingError(f"horizon must be at least 1, got {horizon}. Leave it out for the longest trajectory.")
        self.sets = list(sets)
        self.horizon = horizon
        self.validation_share = validation_share
        self.seed = seed
        self._loading = Loading(
            sets,
            batch_size=batch_size,
            samples_per_epoch=samples_per_epoch,
            shares=shares,
            validation_share=validation_share,
            open_sets=open_sets,
            num_workers=num_workers,
            seed=seed,
        )
        self._train: list[Part] = []
        self._validation: list[Part] = []
        self._statistics = RunStatistics()

    def setup(self, stage: str) -> None:
        """Look into every data set once and, before training, give the module their statistics."""
        module = module_of(self)
        with_state = module.state_normalizer is not None
        if not self._train:
            surveys = [
                survey(
                    one,
                    module.prompter.spec(one.embodiment),
                    with_views=False,
                    with_state=with_state,
                    tasks=self._loading.needs_tasks,
                )
                for one in self.sets
            ]
            chosen = [_fitting(found, self.horizon) for found in surveys]
            longest = max(int(found.num_steps[episodes].max()) for found, episodes in zip(surveys, chosen, strict=True))
            horizon = longest if self.horizon is None else self.horizon
            windows = partial(TrajectoryDataset, horizon=horizon)
            for found, episodes in zip(surveys, chosen, strict=True):
                train, validation = split_episodes(episodes, self.validation_share, seed=self.seed)
                items = np.ones_like(found.num_steps)
                self._train += found.parts(train, windows, items=items)
                self._validation += found.parts(validation, windows, items=items) if validation else []
            self._statistics = run_statistics(self.sets, horizon=lambda one: horizon, with_state=with_state)
        if stage == "fit":
            self._loading.begin()
            self._statistics.give(module)

    def statistics(self) -> dict[str, QuantileStats]:
        """Embodiment -> statistics of the actions of all its frames, once the data are set up."""
        return dict(self._statistics.actions)

    def state_statistics(self) -> dict[str, QuantileStats]:
        """Embodiment -> statistics of its states, once the data are set up; empty where the model reads none."""
        return dict(self._statistics.states)

    @property
    def families(self) -> dict[str, str | None]:
        """Data set -> its family where `shares` names one, once the data are set up."""
        return self._loading.families(self._train)

    def train_dataloader(self) -> ResumableLoader:
        """Trajectories of all sets in the shares of the mixture, from where the run stands."""
        return self._loading.training(self._train, self._collate(), trainer_of(self))

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """The held-out trajectories, in order; nothing where none is held out."""
        if not self._validation:
            return []
        return self._loading.validation(self._validation, self._collate())

    def test_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """As validation."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """As validation."""
        return self.val_dataloader()

    def teardown(self, stage: str) -> None:
        """Stop the processes that load."""
        self._loading.end()

    def state_dict(self) -> dict[str, Any]:
        """Where the run stands in the mixture."""
        return self._loading.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on there."""
        self._loading.load_state_dict(state_dict)

    def _collate(self) -> Collate:
        module = module_of(self)
        return Collate(
            module.prepare,
            prompter=module.prompter,
            channels=module.channels,
            states=module.state_scaler(),
            announce=_length,
        )


def _length(sample: Sample) -> int:
    """What a prompt announces: the whole trajectory."""
    return int(sample.valid.sum())


def _fitting(found: Survey, horizon: int | None) -> list[int]:
    fitting = [index for index in found.episodes if horizon is None or found.num_steps[index] <= horizon]
    if not fitting:
        shortest = found.num_steps[list(found.episodes)].min()
        raise SettingError(
            f"horizon must be at least the length of some trajectory of {found.location}, got {horizon} and a shortest "
            f"of {shortest}. Raise horizon, or leave it out."
        )
    return fitting
