"""Items for training: chunks of the actions ahead of a frame, or whole trajectories."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vla_kit.data.episodes import EpisodeReader
from vla_kit.data.partly_known import known_of
from vla_kit.data.sample import Sample
from vla_kit.data.scattered import clips_at, frames_at
from vla_kit.embodiment.history import History
from vla_kit.errors import DataError, SettingError

__all__ = ["ChunkDataset", "TrajectoryDataset"]


class ChunkDataset(Dataset[Sample]):
    """One item per frame that has an action: what the robot sees there, and the native actions that follow.

    A chunk that runs over the end of its episode is not filled with repeated actions: its late steps are 0 and
    `valid = False`, so no loss sees them.

    Args:
        reader: Data set.
        horizon: Steps of a chunk; this or `seconds`.
        seconds: Duration of a chunk, rounded to steps at the data set's own rate.
        stride: Frames from one item to the next.
        history: Earlier frames of every view that an item shows too; the present frame alone where None.
        episodes: Episodes to take; all where None.

    Raises:
        SettingError: If not exactly one of `horizon` and `seconds` is given, one of them or `stride` is too small, the
            rate that `seconds` or `history` needs is unknown or slower than the history, or no episode is chosen that
            has an action.
        DataError: If an episode does not exist.

    Examples:
        >>> from vla_kit.data.memory_source import MemoryEpisode, MemorySource
        >>> from vla_kit.data.robot_reader import RobotReader
        >>> episode = MemoryEpisode(columns={"action": np.array([[1.0], [2.0], [3.0]])}, instruction="push")
        >>> reader = RobotReader(MemorySource([episode], rate_hz=10), embodiment="point")
        >>> dataset = ChunkDataset(reader, horizon=2)
        >>> [sample.actions.flatten().tolist() for sample in (dataset[1], dataset[2])]
        [[2.0, 3.0], [3.0, 0.0]]
        >>> dataset[2].valid
        tensor([ True, False])
        >>> ChunkDataset(reader, seconds=0.3).horizon
        3

    Source:
        Qwen-VLA, arXiv 2605.30280, section 2.4: action chunks with a mask over steps and channels. The paper does not
        say how chunks end at the end of an episode; we mask.
    """

    def __init__(
        self,
        reader: EpisodeReader,
        *,
        horizon: int | None = None,
        seconds: float | None = None,
        stride: int = 1,
        history: History | None = None,
        episodes: Sequence[int] | None = None,
    ) -> None:
        if stride < 1:
            raise SettingError(f"stride must be at least 1, got {stride}. Use 1 for every frame.")
        self.reader = reader
        self.horizon = _steps(reader, horizon, seconds)
        self.stride = stride
        self.history = history
        if history is not None:
            history.offsets(recorded_hz=_rate(reader, "history"))  # refuses a rate that would repeat frames
        self._episodes = _chosen(reader, episodes)
        self._ends = np.cumsum(-(-reader.num_steps[self._episodes] // stride))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, item: int) -> Sample:
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[int]) -> list[Sample]:
        """Several items, read together; a `DataLoader` asks so for a batch."""
        places = [self._place(item) for item in items]
        embodiment, dataset, samples = self.reader.embodiment, self.reader.name, []
        for (episode, frame), views in zip(places, self._views(places), strict=True):
            actions, valid = _padded(self.reader.chunk(episode, frame, self.horizon), self.horizon)
            samples.append(
                Sample(
                    embodiment=embodiment,
                    instruction=self.reader.instruction_at(episode, frame),
                    views=views,
                    actions=actions,
                    valid=valid,
                    dataset=dataset,
                    episode=episode,
                    frame=frame,
                    state=_state(self.reader, episode, frame),
                    frame_rate_hz=None if self.history is None else self.history.rate_hz,
                    known=_padded_known(known_of(self.reader, episode, frame, self.horizon), self.horizon),
                )
            )
        return samples

    def _views(self, places: Sequence[tuple[int, int]]) -> list[dict[str, Tensor]]:
        """What is seen at each place: an image, or frames, per view."""
        if self.history is None:
            return frames_at(self.reader, places)
        rate_hz = _rate(self.reader, "history")
        return clips_at(
            self.reader,
            [(episode, self.history.indices(frame, recorded_hz=rate_hz)) for episode, frame in places],
        )

    def _place(self, item: int) -> tuple[int, int]:
        """Episode and frame of an item."""
        if not -len(self) <= item < len(self):
            raise IndexError(f"item must lie in [0, {len(self)}), got {item}. Choose one there.")
        item %= len(self)
        place = int(np.searchsorted(self._ends, item, side="right"))
        before = int(self._ends[place - 1]) if place else 0
        return int(self._episodes[place]), (item - before) * self.stride


class TrajectoryDataset(Dataset[Sample]):
    """One item per episode: the sentence and the whole trajectory, without images (text to action, T2A).

    Args:
        reader: Data set.
        horizon: Steps of every item, at least those of the longest trajectory; this or `seconds`. Steps past the end
            are 0 and `valid = False`.
        seconds: Duration of every item, rounded to steps at the data set's own rate.
        with_views: Also give the first frame of each view.
        episodes: Episodes to take; all where None.

    Raises:
        SettingError: If not exactly one of `horizon` and `seconds` is given, it is too small, the rate that `seconds`
            needs is unknown, or no episode is chosen that has an action.
        DataError: If an episode does not exist or is longer than `horizon`.

    Examples:
        >>> from vla_kit.data.memory_source import MemoryEpisode, MemorySource
        >>> from vla_kit.data.robot_reader import RobotReader
        >>> episode = MemoryEpisode(columns={"action": np.array([[1.0], [2.0], [3.0]])}, instruction="push")
        >>> dataset = TrajectoryDataset(RobotReader(MemorySource([episode]), embodiment="point"), horizon=4)
        >>> dataset[0].actions.flatten(), dataset[0].valid
        (tensor([1., 2., 3., 0.]), tensor([ True,  True,  True, False]))

    Source:
        Qwen-VLA, arXiv 2605.30280, stage I: the head learns trajectories from text before it sees images.
    """

    def __init__(
        self,
        reader: EpisodeReader,
        *,
        horizon: int | None = None,
        seconds: float | None = None,
        with_views: bool = False,
        episodes: Sequence[int] | None = None,
    ) -> None:
        self.reader = reader
        self.horizon = _steps(reader, horizon, seconds)
        self.with_views = with_views
        self._episodes = _chosen(reader, episodes)
        steps = reader.num_steps[self._episodes]
        if steps.max() > self.horizon:
            place = int(np.argmax(steps > self.horizon))
            raise DataError(
                f"horizon must be at least the length of every trajectory, got {self.horizon} and episode "
                f"{self._episodes[place]} of {reader.name} with {steps[place]} steps. Raise horizon, leave the episode "
                "out with episodes, or use ChunkDataset."
            )

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, item: int) -> Sample:
        episode = int(self._episodes[item])
        actions, valid = _padded(self.reader.actions(episode), self.horizon)
        images = self.reader.frames(episode, [0]) if self.with_views else {}
        return Sample(
            embodiment=self.reader.embodiment,
            instruction=self.reader.instruction_at(episode, 0),
            views={tag: pixels[0] for tag, pixels in images.items()},
            actions=actions,
            valid=valid,
            dataset=self.reader.name,
            episode=episode,
            frame=0,
            state=_state(self.reader, episode, 0),
            known=_padded_known(known_of(self.reader, episode, 0, self.horizon), self.horizon),
        )


def _steps(reader: EpisodeReader, horizon: int | None, seconds: float | None) -> int:
    if (horizon is None) == (seconds is None):
        raise SettingError(
            f"horizon or seconds must be given, and not both, got {horizon} and {seconds}. Choose how a chunk is cut."
        )
    if horizon is not None:
        if horizon < 1:
            raise SettingError(f"horizon must be at least 1, got {horizon}. Give the steps of a chunk.")
        return horizon
    assert seconds is not None  # noqa: S101 - for the type checker
    rate_hz = _rate(reader, "seconds")
    steps = round(seconds * rate_hz) if math.isfinite(seconds) else 0
    if steps < 1:
        raise SettingError(
            f"seconds must last at least one step at {rate_hz} Hz of {reader.location}, got {seconds}. "
            f"Give at least {1 / rate_hz}."
        )
    return steps


def _rate(reader: EpisodeReader, argument: str) -> float:
    """Frames per second, which an argument needs."""
    if reader.rate_hz is None:
        raise SettingError(
            f"{argument} must be left out where the rate is unknown, as in {reader.location}. Set rate_hz."
        )
    return reader.rate_hz


def _chosen(reader: EpisodeReader, episodes: Sequence[int] | None) -> np.ndarray:
    chosen = np.arange(reader.num_episodes) if episodes is None else np.array(episodes, dtype=np.int64)
    if not len(chosen):
        raise SettingError("episodes must name at least one episode, got none. Leave it None for all.")
    outside = chosen[(chosen < 0) | (chosen >= reader.num_episodes)].tolist()
    if outside:
        raise DataError(
            f"episodes must lie in [0, {reader.num_episodes}) of {reader.name}, got {outside}. Leave them out."
        )
    acted = chosen[reader.num_steps[chosen] > 0]
    if not len(acted):
        raise SettingError(f"episodes must name one with an action, got none in {reader.location}. Choose others.")
    return acted


def _state(reader: EpisodeReader, episode: int, frame: int) -> Tensor | None:
    return reader.states(episode, frame, 1)[0] if reader.state_size else None


def _padded(actions: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
    steps = len(actions)
    if steps == horizon:
        return actions, torch.ones(horizon, dtype=torch.bool)
    padded = actions.new_zeros(horizon, actions.shape[1])
    padded[:steps] = actions
    return padded, torch.arange(horizon) < steps


def _padded_known(known: Tensor | None, horizon: int) -> Tensor | None:
    return None if known is None else _padded(known, horizon)[0]
