"""Choose the episodes whose captions say most: one from each kind of motion within a task."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from vla_kit.data.source import EpisodeSource
from vla_kit.errors import SettingError

__all__ = ["MotionSelection", "medoids", "warped_distances"]

_PAIRS: Final = 4096  # distances that are computed at a time
_ROUNDS: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionSelection:
    """Keeps a share of the episodes of each task: the medoids of their clustered actions. Nothing is drawn by chance.

    Trajectories are resampled to `steps` points and compared by dynamic time warping: the sum of weighted distances of
    matched points, `sum_channel weight * |a - b|`, along the cheapest path. The medoids are found greedily and improved
    until none changes.

    Args:
        share: Share of the episodes of each task that is kept, rounded, but at least one, in (0, 1].
        gripper: Channels that are grippers, counted from 0 through all action columns side by side.
        gripper_weight: Weight of these channels; all others weigh 1.
        steps: Points of a resampled trajectory, at least 2.

    Raises:
        SettingError: If a number is out of range.

    Examples:
        >>> MotionSelection(share=0.05, gripper=[6]).gripper_weight
        100.0

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.5, clusters the actions within each task. FineVLA (arXiv 2605.27284,
        same group) does so by dynamic time warping with weights 1 for position, 1 for rotation and 100 for the gripper,
        and keeps about 5 %. The kind of clustering is not published; k-medoids is ours.
    """

    share: float = 1.0
    gripper: Sequence[int] = ()
    gripper_weight: float = 100.0
    steps: int = 32

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise SettingError(f"share must lie in (0, 1], got {self.share}. Use 1 to keep every episode.")
        if self.steps < 2:
            raise SettingError(f"steps must be at least 2, got {self.steps}. Use 32.")
        if not 0 <= self.gripper_weight < math.inf:
            raise SettingError(f"gripper_weight must be at least 0 and finite, got {self.gripper_weight}. Use 100.")

    def choose(self, source: EpisodeSource, episodes: Sequence[int], *, columns: Sequence[str]) -> list[int]:
        """Choose among episodes.

        Args:
            source: Data set.
            episodes: Episodes to choose among, each of at least one frame.
            columns: Keys of the action columns.

        Returns:
            Chosen episodes, in rising order.

        Raises:
            SettingError: If a gripper channel does not exist.
            DataError: If a column cannot be read.
        """
        if self.share == 1:
            return sorted(episodes)
        size = sum(source.columns[key].size for key in columns)
        if outside := [channel for channel in self.gripper if not 0 <= channel < size]:
            raise SettingError(f"gripper must lie in [0, {size}), got {outside[0]}. Count the channels from 0.")
        weights = np.ones(size)
        weights[list(self.gripper)] = self.gripper_weight
        tasks: dict[str, list[int]] = {}
        for index in sorted(episodes):
            tasks.setdefault(source.instruction_at(index, 0), []).append(index)
        chosen: list[int] = []
        for members in tasks.values():
            count = max(1, round(self.share * len(members)))
            if count == len(members):
                chosen += members
                continue
            motions = np.stack([self._resampled(source, index, columns) for index in members])
            chosen += [members[place] for place in medoids(warped_distances(motions * weights), count)]
        return sorted(chosen)

    def _resampled(self, source: EpisodeSource, index: int, columns: Sequence[str]) -> Float[ndarray, "step channel"]:
        actions = np.concatenate([source.column(index, key).astype(np.float64) for key in columns], axis=1)
        places = np.linspace(0, len(actions) - 1, self.steps)
        return np.stack([np.interp(places, np.arange(len(actions)), channel) for channel in actions.T], axis=1)


def warped_distances(motions: Float[ndarray, "episode step channel"]) -> Float[ndarray, "episode episode"]:
    """Dynamic time warping between all pairs of trajectories, with absolute differences summed over channels.

    Args:
        motions: Trajectories.

    Returns:
        Symmetric distances, 0 on the diagonal.

    Examples:
        >>> early, late = [0.0, 1, 1, 1], [0.0, 0, 0, 1]  # the same motion, sooner and later
        >>> warped_distances(np.array([early, late, [0.0, 2, 2, 2]])[..., None]).tolist()
        [[0.0, 0.0, 3.0], [0.0, 0.0, 3.0], [3.0, 3.0, 0.0]]
    """
    rows, columns = np.triu_indices(len(motions), k=1)
    distances = np.zeros((len(motions), len(motions)))
    for begin in range(0, len(rows), _PAIRS):
        some = slice(begin, begin + _PAIRS)
        distances[rows[some], columns[some]] = _warp(motions[rows[some]], motions[columns[some]])
    return distances + distances.T


def medoids(distances: Float[ndarray, "episode episode"], count: int) -> list[int]:
    """The `count` members whose nearest-medoid distances sum up to little; ties go to the first.

    Each next medoid is the member that lowers the sum most; then every cluster takes its own most central member, until
    nothing changes.

    Args:
        distances: Symmetric distances.
        count: Medoids, from 1 to the number of members.

    Examples:
        >>> places = np.array([0.0, 1, 2, 10, 11, 12])
        >>> medoids(np.abs(places[:, None] - places), 2)
        [1, 4]
    """
    found: list[int] = []
    nearest = np.full(len(distances), np.inf)
    for _ in range(count):
        sums = np.minimum(nearest, distances).sum(axis=1)
        sums[found] = np.inf
        found.append(int(sums.argmin()))
        nearest = np.minimum(nearest, distances[found[-1]])
    for _ in range(_ROUNDS):
        owner: Int[ndarray, " episode"] = distances[found].argmin(axis=0)
        owner[found] = np.arange(count)  # of equal members each medoid keeps itself
        moved = []
        for place in range(count):
            members = np.flatnonzero(owner == place)
            moved.append(int(members[distances[np.ix_(members, members)].sum(axis=1).argmin()]))
        if moved == found:
            break
        found = moved
    return sorted(found)


def _warp(
    first: Float[ndarray, "pair step channel"], second: Float[ndarray, "pair step channel"]
) -> Float[ndarray, " pair"]:
    """Cost of the cheapest path, cell by cell, over all pairs at once."""
    steps = first.shape[1]
    above = np.full((steps + 1, len(first)), np.inf)
    above[0] = 0.0
    for row in range(steps):
        costs = np.abs(first[:, row, None] - second).sum(axis=2).T
        below = np.full_like(above, np.inf)
        for column in range(steps):
            best = np.minimum(np.minimum(above[column], above[column + 1]), below[column])
            below[column + 1] = costs[column] + best
        above = below
    last: Float[ndarray, " pair"] = above[-1]
    return last
