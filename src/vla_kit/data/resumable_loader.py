"""Batches of a mixture that go on exactly where a run stopped."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from vla_kit.data.any_sample import AnySample
from vla_kit.data.collate import Batch
from vla_kit.data.mixture import Mixture
from vla_kit.errors import CheckpointError, SettingError

__all__ = ["ResumableLoader"]

_SHOWN: Final = 4


class ResumableLoader:
    """Loads batches of a mixture in order; its state is how many samples were used.

    Batch `b` of rank `r` holds the samples from `(b * world_size + r) * batch_size` on, and its augmentation draws from
    a seed of that number. So a batch depends on neither the processes that load it nor on what was loaded before: after
    `load_state_dict` the batches are bit for bit those that would have come, with any `num_workers`. Batches that were
    loaded ahead and not given out do not count as used.

    An epoch is `num_batches` batches; the next one goes on in the order and does not begin it anew. After
    `load_state_dict` the first pass gives the rest of the epoch.

    Another `world_size` or `batch_size` goes on at the same sample, if a whole number of the new batches of all ranks
    together leads there; `world_size * batch_size` unchanged gives the very same samples per step.

    Args:
        mixture: What to load.
        collate: Makes a batch of samples, such as `Collate`. Its draws come from torch's generator.
        batch_size: Samples per batch and rank.
        num_batches: Batches of an epoch, on each rank.
        rank: This process among those that train.
        world_size: Processes that train.
        num_workers: Processes that load; 0 loads in this one.
        pin_memory: Copy batches to page-locked memory, from which they reach a GPU without waiting.

    Raises:
        SettingError: If a number is out of range.

    Examples:
        ```
        loader = ResumableLoader(mixture, collate=collate, batch_size=64, num_batches=1000)
        for batch in loader:
            train(batch)
            torch.save(loader.state_dict(), "position.pt")
        ```

    Source:
        torchdata's StatefulDataLoader has the same two methods, but refuses another number of workers on resume, for
        its state is that of each worker.
    """

    def __init__(
        self,
        mixture: Mixture,
        *,
        collate: Callable[[Sequence[AnySample]], Batch],
        batch_size: int,
        num_batches: int,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("num_batches", num_batches), ("world_size", world_size)):
            if value < 1:
                raise SettingError(f"{name} must be at least 1, got {value}. Use 1 or more.")
        if num_workers < 0:
            raise SettingError(f"num_workers must be at least 0, got {num_workers}. Use 0 to load in this process.")
        if not 0 <= rank < world_size:
            raise SettingError(f"rank must lie in [0, {world_size}), got {rank}. Ranks are counted from 0.")
        self.mixture = mixture
        self.collate = collate
        self.batch_size = batch_size
        self.num_batches = num_batches
        self.rank = rank
        self.world_size = world_size
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self._used = 0
        self._used_in_epoch = 0
        self._resumed = False
        self._numbers = _Numbers()
        self._loader = self._open()

    def __len__(self) -> int:
        """Batches of a whole epoch, also where a part of it was used before."""
        return self.num_batches

    def __iter__(self) -> Iterator[Batch]:
        """The rest of the epoch after `load_state_dict`, a new epoch otherwise."""
        used = self._used_in_epoch % self.num_batches if self._resumed else 0
        self._resumed = False
        self._used_in_epoch = used
        self._numbers.numbers = range(self._used, self._used + self.num_batches - used)
        for batch in self._loader:
            self._used += 1  # before the batch is given out: whoever saves while it trains has used it
            self._used_in_epoch += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands, in samples of all ranks, and what it loads."""
        together = self.batch_size * self.world_size
        return {
            "samples": self._used * together,
            "epoch_samples": self._used_in_epoch * together,
            "parts": self.mixture.fingerprints,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where another loader stood.

        Raises:
            CheckpointError: If the other one loaded other data, stood where no batch of this one begins, or no loader
                saved the state.
        """
        lacking = [key for key in ("samples", "epoch_samples", "parts") if key not in state_dict]
        if lacking:
            raise CheckpointError(
                f"state_dict must hold samples, epoch_samples and parts, got none of {lacking}. Give what state_dict "
                "of another loader returned."
            )
        _check_parts(state_dict["parts"], self.mixture.fingerprints)
        together, samples = self.batch_size * self.world_size, int(state_dict["samples"])
        epoch_samples = int(state_dict["epoch_samples"])
        for name, value in (("samples", samples), ("epoch_samples", epoch_samples)):
            if value < 0:
                raise CheckpointError(f"{name} must be at least 0, got {value}. No loader saved it.")
        if samples % together:
            raise CheckpointError(
                f"batch_size * world_size must divide the samples used so far ({samples}), got {self.batch_size} * "
                f"{self.world_size} = {together}. Choose a batch_size that does, or go on with as many processes as "
                "before."
            )
        self._used = samples // together
        self._used_in_epoch = epoch_samples // together
        self._resumed = True

    def close(self) -> None:
        """Stop the processes that load; they start again when needed."""
        self._loader = self._open()

    def _open(self) -> DataLoader[Batch]:
        loader: Any = DataLoader(  # whose type is that of the items before collate_fn
            _Batches(self.mixture, self.collate, self.batch_size, self.rank, self.world_size),
            batch_size=None,
            sampler=self._numbers,
            collate_fn=_as_it_is,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.pin_memory,
            generator=torch.Generator(),  # else it draws from the one that trains
        )
        batches: DataLoader[Batch] = loader
        return batches


class _Numbers(Sampler[int]):
    """Batch numbers of the epoch; workers that outlive an epoch get the next ones."""

    numbers: Sequence[int] = ()

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


class _Batches(Dataset[Batch]):
    """Batches by number."""

    def __init__(
        self,
        mixture: Mixture,
        collate: Callable[[Sequence[AnySample]], Batch],
        batch_size: int,
        rank: int,
        world_size: int,
    ) -> None:
        self._mixture, self._collate = mixture, collate
        self._batch_size, self._rank, self._world_size = batch_size, rank, world_size

    def __getitem__(self, number: int) -> Batch:
        first = (number * self._world_size + self._rank) * self._batch_size
        samples = self._mixture.samples(range(first, first + self._batch_size))
        seeds = np.random.SeedSequence((self._mixture.seed % 2**64, first)).generate_state(1, np.uint64)
        with torch.random.fork_rng(devices=[]), _one_thread():
            torch.default_generator.manual_seed(int(seeds[0]))  # the CPU's alone: torch.manual_seed reaches the GPUs
            return self._collate(samples)


def _as_it_is(batch: Any) -> Any:  # noqa: ANN401 (collate_fn's signature)
    return batch


@contextmanager
def _one_thread() -> Iterator[None]:
    """As in a worker: with several threads, sums over a picture may round differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_parts(theirs: Mapping[str, str], ours: Mapping[str, str]) -> None:
    problems = {
        "new": sorted(set(ours) - set(theirs)),
        "missing": sorted(set(theirs) - set(ours)),
        "with other data, length, share or seed": sorted(
            name for name in set(ours) & set(theirs) if ours[name] != theirs[name]
        ),
    }
    found = [f"{len(names)} {kind}: {_short(names)}" for kind, names in problems.items() if names]
    if found:
        raise CheckpointError(
            f"mixture must be that of the checkpoint, got {'; '.join(found)}. Go on with the same data, weights and "
            "seed, or begin anew from the weights with --warm_start.checkpoint."
        )


def _short(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
