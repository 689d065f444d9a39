"""What a run has to know of a data set before it trains; the data set is closed again afterwards."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Int
from numpy import ndarray
from torch.utils.data import Dataset

from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.data.episodes import EpisodeReader
from vla_kit.data.lazy_parts import Part
from vla_kit.data.sample import Sample
from vla_kit.embodiment import EmbodimentSpec

__all__ = ["Survey", "survey"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Survey:
    """Facts of a data set that was opened once.

    Args:
        chosen: The data set as the user wrote it.
        name: Its name.
        location: Where it lies.
        fingerprint: Digest of its data.
        episodes: Episodes to take.
        num_steps: Actions of each episode of the set, taken or not.
        tasks: Sentence -> its episodes among those to take; empty where nobody asked.
        open: Opens it.
    """

    chosen: DemonstrationSet
    name: str
    location: str
    fingerprint: str
    episodes: Sequence[int]
    num_steps: Int[ndarray, " episode"]
    tasks: Mapping[str, Sequence[int]]
    open: Callable[[], EpisodeReader]

    def parts(
        self, episodes: Sequence[int], windows: Callable[..., Dataset[Sample]], *, items: Int[ndarray, " episode"]
    ) -> list[Part]:
        """Parts of a mixture, one per task where tasks are known.

        Args:
            episodes: Episodes to take.
            windows: `(reader, episodes=...) -> items`.
            items: Items of each episode of the set.
        """
        total = int(items[list(episodes)].sum())
        among = set(episodes)
        groups: Mapping[str | None, Sequence[int]] = {None: episodes}
        if self.tasks:
            groups = {text: kept for text, some in self.tasks.items() if (kept := [i for i in some if i in among])}
        return [
            Part(
                name=self.name if text is None else f"{self.name}: {text}",
                dataset=self.name,
                location=self.location,
                fingerprint=self.fingerprint,
                embodiment=self.chosen.embodiment,
                instruction=text,
                length=(length := int(items[list(some)].sum())),
                weight=self.chosen.weight * length / total,
                open=self.open,
                windows=partial(windows, episodes=np.asarray(some, dtype=np.int32)),
            )
            for text, some in groups.items()
        ]


def survey(
    chosen: DemonstrationSet, spec: EmbodimentSpec, *, with_views: bool, with_state: bool, tasks: bool
) -> Survey:
    """Open a data set, look and close it; one that caches its frames stays open, for they were decoded already.

    Args:
        chosen: The data set.
        spec: Its robot.
        with_views: Whether pictures will be read.
        with_state: Whether the model reads states.
        tasks: Whether to read the sentence of every episode.

    Raises:
        DataError: If the data set is missing, broken or does not fit its robot, or lacks a state that is read.
    """
    keep = chosen.cache_frames and with_views
    reader = replace(chosen, cache_frames=False).open(with_views=with_views, with_state=with_state)
    chosen.check(reader, spec, with_state=with_state)
    episodes = chosen.episodes(reader)
    by_sentence: dict[str, list[int]] = {}
    for index in episodes if tasks else ():
        by_sentence.setdefault(reader.episode(index).instruction, []).append(index)
    return Survey(
        chosen=chosen,
        name=reader.name,
        location=reader.location,
        fingerprint=reader.fingerprint,
        episodes=episodes,
        num_steps=reader.num_steps,
        tasks=by_sentence,
        open=_Kept(chosen, with_state=with_state)
        if keep
        else partial(chosen.open, with_views=with_views, with_state=with_state),
    )


class _Kept:
    """Opens a data set once; workers that are forked afterwards share its frames."""

    def __init__(self, chosen: DemonstrationSet, *, with_state: bool) -> None:
        self._reader = chosen.open(with_state=with_state)

    def __call__(self) -> EpisodeReader:
        return self._reader
