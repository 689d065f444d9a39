"""Items for training: chunks of the actions ahead of a frame, or whole trajectories."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vla_kit.data.episodes import EpisodeReader
from vla_kit.data.sample import Sample
from vla_kit.errors import DataError, SettingError

__all__ = ["ChunkDataset", "TrajectoryDataset"]


class ChunkDataset(Dataset[Sample]):
    """One item per frame: what the robot sees there, and the next `horizon` native actions.

    A chunk that runs over the end of its episode is not filled with repeated actions: its late steps are 0 and
    `valid = False`, so no loss sees them.

    Args:
        reader: Data set.
        horizon: Steps of a chunk.
        stride: Frames from one item to the next.
        episodes: Episodes to take; all where None.

    Raises:
        SettingError: If `horizon` or `stride` is less than 1 or `episodes` is empty.
        DataError: If an episode does not exist.

    Examples:
        >>> import numpy as np, tempfile
        >>> from vla_kit.data.lerobot_writer import LeRobotWriter
        >>> from vla_kit.data.readers.lerobot import LeRobotReader
        >>> folder = tempfile.TemporaryDirectory()
        >>> features = {"action": {"dtype": "float32", "shape": (1,)}}
        >>> with LeRobotWriter(f"{folder.name}/set", rate_hz=10, features=features) as writer:
        ...     writer.add_episode(np.array([[1.0], [2.0], [3.0]]), instruction="push")
        >>> dataset = ChunkDataset(LeRobotReader(f"{folder.name}/set", embodiment="point", views={}), horizon=2)
        >>> [sample.actions.flatten().tolist() for sample in (dataset[1], dataset[2])]
        [[2.0, 3.0], [3.0, 0.0]]
        >>> dataset[2].valid
        tensor([ True, False])
        >>> folder.cleanup()

    Source:
        Qwen-VLA, arXiv 2605.30280, section 2.4: action chunks with a mask over steps and channels. The paper does not
        say how chunks end at the end of an episode; we mask.
    """

    def __init__(
        self, reader: EpisodeReader, *, horizon: int, stride: int = 1, episodes: Sequence[int] | None = None
    ) -> None:
        if stride < 1:
            raise SettingError(f"stride must be at least 1, got {stride}. Use 1 for every frame.")
        _check_horizon(horizon)
        self.reader = reader
        self.horizon = horizon
        chosen = _chosen(reader, episodes)
        places = [
            torch.stack([torch.full_like(frames, index), frames], dim=1)
            for index in chosen
            for frames in [torch.arange(0, reader.episode(index).length, stride)]
        ]
        self._places = torch.cat(places)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, item: int) -> Sample:
        episode, frame = self._places[item].tolist()
        images = self.reader.frames(episode, [frame])
        actions, valid = _padded(self.reader.actions(episode)[frame : frame + self.horizon], self.horizon)
        return Sample(
            embodiment=self.reader.embodiment,
            instruction=self.reader.instruction_at(episode, frame),
            views={tag: pixels[0] for tag, pixels in images.items()},
            actions=actions,
            valid=valid,
            dataset=self.reader.name,
            episode=episode,
            frame=frame,
        )


class TrajectoryDataset(Dataset[Sample]):
    """One item per episode: the sentence and the whole trajectory, without images (text to action, T2A).

    Args:
        reader: Data set.
        horizon: Steps of every item; at least the longest episode. Steps past the end are 0 and `valid = False`.
        with_views: Also give the first frame of each view.
        episodes: Episodes to take; all where None.

    Raises:
        SettingError: If `horizon` is less than 1 or `episodes` is empty.
        DataError: If an episode does not exist or is longer than `horizon`.

    Examples:
        >>> import numpy as np, tempfile
        >>> from vla_kit.data.lerobot_writer import LeRobotWriter
        >>> from vla_kit.data.readers.lerobot import LeRobotReader
        >>> folder = tempfile.TemporaryDirectory()
        >>> features = {"action": {"dtype": "float32", "shape": (1,)}}
        >>> with LeRobotWriter(f"{folder.name}/set", rate_hz=10, features=features) as writer:
        ...     writer.add_episode(np.array([[1.0], [2.0], [3.0]]), instruction="push")
        >>> dataset = TrajectoryDataset(LeRobotReader(f"{folder.name}/set", embodiment="point", views={}), horizon=4)
        >>> dataset[0].actions.flatten(), dataset[0].valid
        (tensor([1., 2., 3., 0.]), tensor([ True,  True,  True, False]))
        >>> folder.cleanup()

    Source:
        Qwen-VLA, arXiv 2605.30280, stage I: the head learns trajectories from text before it sees images.
    """

    def __init__(
        self,
        reader: EpisodeReader,
        *,
        horizon: int,
        with_views: bool = False,
        episodes: Sequence[int] | None = None,
    ) -> None:
        _check_horizon(horizon)
        self.reader = reader
        self.horizon = horizon
        self.with_views = with_views
        self._episodes = _chosen(reader, episodes)
        for index in self._episodes:
            length = reader.episode(index).length
            if length > horizon:
                raise DataError(
                    f"horizon must be at least the length of every trajectory, got {horizon} and episode {index} of "
                    f"{reader.name} with {length} steps. Raise horizon, leave the episode out with episodes, or use "
                    "ChunkDataset."
                )

    def __len__(self) -> int:
        return len(self._episodes)

    def __getitem__(self, item: int) -> Sample:
        episode = self._episodes[item]
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
        )


def _check_horizon(horizon: int) -> None:
    if horizon < 1:
        raise SettingError(f"horizon must be at least 1, got {horizon}. Give the steps of a chunk.")


def _chosen(reader: EpisodeReader, episodes: Sequence[int] | None) -> list[int]:
    chosen = list(range(reader.num_episodes)) if episodes is None else [int(index) for index in episodes]
    if not chosen:
        raise SettingError("episodes must name at least one episode, got none. Leave it None for all.")
    outside = [index for index in chosen if not 0 <= index < reader.num_episodes]
    if outside:
        raise DataError(
            f"episodes must lie in [0, {reader.num_episodes}) of {reader.name}, got {outside}. Leave them out."
        )
    return chosen


def _padded(actions: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
    steps = len(actions)
    padded = actions.new_zeros(horizon, actions.shape[1])
    padded[:steps] = actions
    return padded, torch.arange(horizon) < steps
