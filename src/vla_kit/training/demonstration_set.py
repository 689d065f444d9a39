"""One recorded data set of a mixture: where it lies, whose it is, how often it is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from vla_kit.actions import QuantileStats
from vla_kit.data.episodes import EpisodeReader
from vla_kit.data.readers.lerobot import LeRobotReader
from vla_kit.errors import SettingError

__all__ = ["DemonstrationSet", "merged_statistics", "split_episodes"]


@dataclass(frozen=True, kw_only=True)
class DemonstrationSet:
    """A folder of the LeRobot v3.0 layout as part of a mixture.

    Args:
        root: The folder.
        embodiment: Name of the robot for prompter and normaliser.
        views: View tag -> feature key, such as `{"cam_high": "observation.images.cam_high"}`, in the order in which
            the views enter the model.
        weight: Share of the mixture, at least 0, relative to the other sets.
        action: Feature key of the actions.
        name: Name of the data set; the folder's name where None.
        stride: Frames from one training sample to the next. Where episodes follow a fixed plan and the policy looks
            once per chunk, the length of a chunk shows just the moments at which it will look.
        num_episodes: Take the first so many episodes; all where None.
        cache_frames: Keep every decoded frame in memory, see `LeRobotReader`.

    Raises:
        SettingError: If `weight` is negative, or `stride` or `num_episodes` is below 1.

    Examples:
        >>> DemonstrationSet(root="data/reach", embodiment="metaworld_sawyer").weight
        1.0
    """

    root: str
    embodiment: str
    views: Mapping[str, str] = field(default_factory=dict)
    weight: float = 1.0
    action: str = "action"
    name: str | None = None
    stride: int = 1
    num_episodes: int | None = None
    cache_frames: bool = True

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise SettingError(f"weight must be at least 0, got {self.weight} for {self.root}. Use 0 to leave it out.")
        if self.num_episodes is not None and self.num_episodes < 1:
            raise SettingError(f"num_episodes must be at least 1, got {self.num_episodes}. Leave it out for all.")
        if self.stride < 1:
            raise SettingError(f"stride must be at least 1, got {self.stride} for {self.root}. Use 1 for every frame.")

    def open(self, *, with_views: bool = True) -> EpisodeReader:
        """Open the data set.

        Args:
            with_views: Whether pictures will be read; without, none are decoded.

        Returns:
            A reader of all its episodes.

        Raises:
            DataError: If the folder is missing or broken.
        """
        return LeRobotReader(
            self.root,
            embodiment=self.embodiment,
            views=self.views if with_views else {},
            action=self.action,
            name=self.name,
            cache_frames=self.cache_frames and with_views,
        )

    def episodes(self, reader: EpisodeReader) -> list[int]:
        """Episodes to take of an opened set."""
        count = reader.num_episodes if self.num_episodes is None else min(self.num_episodes, reader.num_episodes)
        return list(range(count))


def split_episodes(episodes: Sequence[int], share: float, *, seed: int = 0) -> tuple[list[int], list[int]]:
    """Split episodes into training and validation, so that no episode is in both.

    Args:
        episodes: Indices.
        share: Share that validates, in [0, 1). Above 0 it is at least one episode, and one always trains.
        seed: Of the draw, which depends on nothing else.

    Returns:
        Training and validation episodes, each sorted.

    Raises:
        SettingError: If `share` is not in [0, 1).

    Examples:
        >>> train, validation = split_episodes(range(10), 0.2)
        >>> len(train), len(validation), set(train) & set(validation)
        (8, 2, set())
    """
    if not 0 <= share < 1:
        raise SettingError(f"validation_share must lie in [0, 1), got {share}. Use 0 for no validation.")
    count = min(max(1, round(share * len(episodes))), len(episodes) - 1) if share else 0
    order = torch.randperm(len(episodes), generator=torch.Generator().manual_seed(seed)).tolist()
    shuffled = [episodes[place] for place in order]
    return sorted(shuffled[count:]), sorted(shuffled[:count])


def merged_statistics(readers: Sequence[EpisodeReader]) -> dict[str, QuantileStats]:
    """Exact statistics of each robot over all data sets that it has.

    Every episode counts, validation too: a split must not change what an action means.

    Args:
        readers: Opened data sets.

    Returns:
        Embodiment -> statistics of all its frames.

    Source:
        Qwen-VLA, arXiv 2605.30280, equation 5, normalises per data set. Here the data sets that share an embodiment
        share one map, because a robot that acts knows its name, not the data set; name them apart to keep them apart.
    """
    by_robot: dict[str, list[EpisodeReader]] = {}
    for reader in readers:
        by_robot.setdefault(reader.embodiment, []).append(reader)
    return {
        name: group[0].statistics()
        if len(group) == 1
        else QuantileStats.from_frames(
            torch.cat([reader.actions(index) for reader in group for index in range(reader.num_episodes)])
        )
        for name, group in by_robot.items()
    }
