"""Demonstrations with pictures for `VLAModule`: chunks of several data sets, mixed in every batch."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from lightning.pytorch import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader

from vla_kit.actions import QuantileStats
from vla_kit.data.collate import Batch, Collate
from vla_kit.data.conversations import ConversationSet
from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.data.lazy_parts import Part
from vla_kit.data.mirror import HandMirror
from vla_kit.data.resumable_loader import ResumableLoader
from vla_kit.data.shares import Shares
from vla_kit.data.split import split_episodes
from vla_kit.data.windows import ChunkDataset
from vla_kit.errors import SettingError
from vla_kit.training._conversations import conversation_parts
from vla_kit.training._loading import Loading, module_of, trainer_of
from vla_kit.training._statistics import RunStatistics, run_statistics
from vla_kit.training._survey import survey

__all__ = ["DemonstrationDataModule"]


class DemonstrationDataModule(LightningDataModule):
    """Pictures, words and the chunk of actions that follows, from several robots, and conversations beside them.

    Chunks are as long as the prompt says: the `chunk_size` of each robot. Prompter, image preprocessing and padded
    width are those of the module in training, which also gets the statistics of the data before it trains.

    Where the run stands in the mixture is part of the checkpoint; see `ResumableLoader` for what may change on resume.

    Args:
        sets: Data sets of the mixture.
        conversations: Sets of conversations of the mixture, from which the backbone learns to answer; a robot and a
            conversation are a sample each. With `BalancedShares` all of them count as one robot.
        batch_size: Samples per batch (and process).
        samples_per_epoch: Samples per epoch over all processes, rounded up to whole batches. Where None, an epoch is
            the whole run if the trainer counts steps, so that its progress bar shows the time left, and the number of
            frames otherwise.
        shares: How often each set, robot or task is drawn, such as `BalancedShares`; the sets' weights where None.
        validation_share: Share of the episodes, or conversations, of each set that validates and never trains, in
            [0, 1).
        validation_stride: Frames between validation samples.
        augment: Changes stacks of uint8 pictures in training, such as `vla_kit.data.augment.RandomShift`.
        hand_mirror: Shows samples of human hands in a mirror in training, with statistics that hold for both sides; not
            where None.
        num_workers: Processes that load; 0 loads in the training process.
        open_sets: Data sets that are open at a time in each process that loads. More cost memory, fewer cost time
            where there are more sets than that.
        seed: Of the split and of the order.

    Raises:
        SettingError: If there is no set, or a number is out of range.

    Source:
        Qwen-VLA, arXiv 2605.30280, sections 2.5 (mixture in every batch) and 4.1. Augmentation and split are ours.
    """

    def __init__(
        self,
        *,
        sets: Sequence[DemonstrationSet],
        conversations: Sequence[ConversationSet] = (),
        batch_size: int = 64,
        samples_per_epoch: int | None = None,
        shares: Shares | None = None,
        validation_share: float = 0.05,
        validation_stride: int = 4,
        augment: nn.Module | None = None,
        hand_mirror: HandMirror | None = None,
        num_workers: int = 0,
        open_sets: int = 32,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if validation_stride < 1:
            raise SettingError(f"validation_stride must be at least 1, got {validation_stride}. Use 4.")
        self.sets = list(sets)
        self.conversations = list(conversations)
        self.validation_share = validation_share
        self.validation_stride = validation_stride
        self.augment = augment
        self.hand_mirror = hand_mirror
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
        self._held_out: list[Part] = []
        self._statistics = RunStatistics()

    def setup(self, stage: str) -> None:
        """Look into every data set once and, before training, give the module their statistics."""
        module = module_of(self)
        with_state = module.state_normalizer is not None
        if not self._train:
            for one in self.sets:
                spec = module.prompter.spec(one.embodiment)
                found = survey(one, spec, with_views=True, with_state=with_state, tasks=self._loading.needs_tasks)
                train, validation = split_episodes(found.episodes, self.validation_share, seed=self.seed)
                windows = partial(ChunkDataset, horizon=spec.chunk_size, stride=one.stride, history=one.history)
                self._train += found.parts(train, windows, items=-(-found.num_steps // one.stride))
                windows = partial(windows, stride=self.validation_stride)
                items = -(-found.num_steps // self.validation_stride)
                self._validation += found.parts(validation, windows, items=items) if validation else []
            talks, self._held_out = conversation_parts(
                self.conversations, validation_share=self.validation_share, seed=self.seed
            )
            self._train += talks
            self._statistics = run_statistics(
                self.sets,
                horizon=lambda one: module.prompter.spec(one.embodiment).chunk_size,
                with_state=with_state,
            )
            if self.hand_mirror is not None:
                self._statistics = self._statistics.changed(self.hand_mirror.statistics)
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
        """Samples of all sets in the shares of the mixture, from where the run stands."""
        return self._loading.training(self._train, self._collate(training=True), trainer_of(self))

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Samples of the held-out episodes, in order, and held-out conversations in a loader of their own."""
        collate = self._collate(training=False)
        loaders = [self._loading.validation(parts, collate) for parts in (self._validation, self._held_out) if parts]
        return [] if not loaders else loaders[0] if len(loaders) == 1 else loaders

    def test_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """As validation."""
        return self.val_dataloader()

    def predict_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Samples of the held-out episodes."""
        if not self._validation:
            return []
        return self._loading.validation(self._validation, self._collate(training=False))

    def teardown(self, stage: str) -> None:
        """Stop the processes that load."""
        self._loading.end()

    def state_dict(self) -> dict[str, Any]:
        """Where the run stands in the mixture."""
        return self._loading.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on there."""
        self._loading.load_state_dict(state_dict)

    def _collate(self, *, training: bool) -> Collate:
        module = module_of(self)
        return Collate(
            partial(module.prepare, with_labels=True) if self.conversations else module.prepare,
            prompter=module.prompter,
            channels=module.channels,
            augment=self.augment if training else None,
            states=module.state_scaler(),
            augment_sample=self.hand_mirror if training else None,
        )
