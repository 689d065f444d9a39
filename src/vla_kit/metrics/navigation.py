"""Measures of one navigation episode: success with a stop, SPL, distances, and dynamic time warping."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vla_kit.errors import DataError, SettingError, ShapeError

__all__ = ["NavigationEpisode", "dynamic_time_warping", "mean_scores", "ndtw", "path_length"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NavigationEpisode:
    """What counts of an episode. Distances to the goal are those of the shortest way, not of a straight line.

    Args:
        distance_m: From where the robot ended to the goal [m].
        nearest_m: From the goal to the nearest place of the robot's way [m].
        length_m: Of the robot's way [m].
        shortest_m: Of the shortest way from start to goal [m].
        stopped: Whether the robot stopped by itself. An episode that ran out of time has failed, wherever it ended.
        ndtw: Normalised dynamic time warping against the way that was meant, in [0, 1]; None where there is none.
        success_m: A stop nearer to the goal than this is a success [m]; 3 m in R2R and RxR.

    Raises:
        DataError: If a distance is NaN or infinite: a goal that cannot be reached has no SPL.
        SettingError: If a distance is negative, the nearest place is further than the last, `ndtw` lies outside [0, 1]
            or `success_m` is not above 0.

    Examples:
        >>> episode = NavigationEpisode(distance_m=1.0, nearest_m=0.5, length_m=12.0, shortest_m=9.0, stopped=True)
        >>> episode.success, episode.spl
        (True, 0.75)

    Source:
        Anderson et al. 2018, arXiv 1807.06757 (SPL; success needs a stop); Krantz et al. 2020, arXiv 2004.02857
        (VLN-CE, geodesic distances); Ilharco et al. 2019, arXiv 1907.05446 (nDTW, SDTW).
    """

    distance_m: float
    nearest_m: float
    length_m: float
    shortest_m: float
    stopped: bool
    ndtw: float | None = None
    success_m: float = 3.0

    def __post_init__(self) -> None:
        for name in ("distance_m", "nearest_m", "length_m", "shortest_m"):
            value = getattr(self, name)
            if not math.isfinite(value):
                raise DataError(
                    f"{name} must be finite, got {value}. The goal cannot be reached from there: drop the episode."
                )
            if value < 0:
                raise SettingError(f"{name} must be at least 0, got {value}. Give a length in metres.")
        if self.nearest_m > self.distance_m:
            raise SettingError(
                f"nearest_m must be at most distance_m {self.distance_m}, got {self.nearest_m}. Count the last place."
            )
        if self.ndtw is not None and not 0 <= self.ndtw <= 1:
            raise SettingError(f"ndtw must lie in [0, 1], got {self.ndtw}. Use vla_kit.metrics.ndtw.")
        if not 0 < self.success_m < math.inf:
            raise SettingError(f"success_m must be above 0 and finite, got {self.success_m}. R2R has 3 m.")

    @classmethod
    def of(
        cls,
        path: Float[np.ndarray, "step size"],
        *,
        goal_distances: Float[np.ndarray, " step"],
        shortest_m: float,
        stopped: bool,
        success_m: float = 3.0,
        reference: Float[np.ndarray, "point size"] | None = None,
    ) -> "NavigationEpisode":
        """Measure a way.

        Args:
            path: Places of the robot, the start first [m].
            goal_distances: Shortest way from each of them to the goal [m].
            shortest_m: Shortest way from start to goal [m].
            stopped: Whether the robot stopped by itself.
            success_m: As in the constructor.
            reference: The way that was meant [m]; no nDTW where None.

        Returns:
            The episode.

        Raises:
            DataError: If the path is empty, or a number is NaN or infinite.
            ShapeError: If there is not one distance per place.

        Examples:
            >>> way = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
            >>> NavigationEpisode.of(way, goal_distances=np.array([2.0, 1.0, 0.0]), shortest_m=2, stopped=True).spl
            1.0
        """
        length = path_length(path)
        if goal_distances.shape != (len(path),):
            raise ShapeError(
                f"goal_distances must have the shape ({len(path)},), one per place, got {goal_distances.shape}. "
                "Measure at every step."
            )
        return cls(
            distance_m=float(goal_distances[-1]),
            nearest_m=float(goal_distances.min()),
            length_m=length,
            shortest_m=float(shortest_m),
            stopped=bool(stopped),
            ndtw=None if reference is None else ndtw(path, reference, success_m=success_m),
            success_m=success_m,
        )

    @property
    def success(self) -> bool:
        """Whether the robot stopped near the goal."""
        return self.stopped and self.distance_m < self.success_m

    @property
    def oracle_success(self) -> bool:
        """Whether it was near the goal at any time, stop or not."""
        return self.nearest_m < self.success_m

    @property
    def spl(self) -> float:
        """Success times shortest over walked length; 1 for a success that began at the goal and did not move."""
        longer = max(self.shortest_m, self.length_m)
        return float(self.success) * (self.shortest_m / longer if longer > 0 else 1.0)

    @property
    def sdtw(self) -> float | None:
        """The nDTW of a success, 0 of a failure; None where there is no nDTW."""
        return None if self.ndtw is None else float(self.success) * self.ndtw

    @property
    def scores(self) -> dict[str, float | None]:
        """All that is averaged, by the names of `NavigationScores`; None where there is no reference."""
        return {
            "success": float(self.success),
            "oracle_success": float(self.oracle_success),
            "spl": self.spl,
            "navigation_error_m": self.distance_m,
            "trajectory_length_m": self.length_m,
            "ndtw": self.ndtw,
            "sdtw": self.sdtw,
        }


def mean_scores(episodes: Sequence[NavigationEpisode]) -> dict[str, float]:
    """Means over episodes; `NavigationScores` gives the same over several processes.

    Args:
        episodes: At least one, each with or without a reference.

    Returns:
        Name -> mean over the episodes that have the score, NaN where none has; and `episodes`, their number.

    Raises:
        DataError: If there is no episode.

    Examples:
        >>> near = NavigationEpisode(distance_m=1.0, nearest_m=0.5, length_m=12.0, shortest_m=9.0, stopped=True)
        >>> found = mean_scores([near])
        >>> found["spl"], found["ndtw"], found["episodes"]
        (0.75, nan, 1.0)
    """
    if not episodes:
        raise DataError("episodes must hold at least one episode, got none. Run one.")
    means: dict[str, float] = {}
    for name in episodes[0].scores:
        known = [value for one in episodes if (value := one.scores[name]) is not None]
        means[name] = math.fsum(known) / len(known) if known else math.nan
    return {**means, "episodes": float(len(episodes))}


def path_length(path: Float[np.ndarray, "step size"]) -> float:
    """Length of a way; that of a single place is 0.

    Args:
        path: Places in their order [m].

    Returns:
        The length [m].

    Raises:
        DataError: If there is no place, or one is NaN or infinite.

    Examples:
        >>> path_length(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]]))
        6.0
    """
    _check_path("path", path)
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def dynamic_time_warping(cost: Float[np.ndarray, "step point"]) -> float:
    """Least total cost of walking two sequences together, each step forward in one or both.

    Args:
        cost: Distance of each place of the one to each of the other.

    Returns:
        Sum of the costs along the best alignment, both ends included.

    Raises:
        DataError: If a sequence is empty.

    Examples:
        >>> dynamic_time_warping(np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]]))
        1.0
    """
    steps, points = cost.shape
    if not (steps and points):
        raise DataError(f"cost must hold both sequences, got the shape {cost.shape}. Drop empty paths.")
    total = np.full((steps + 1, points + 1), np.inf)
    total[0, 0] = 0.0
    for diagonal in range(steps + points - 1):  # entries of one diagonal do not depend on each other
        i = np.arange(max(0, diagonal - points + 1), min(steps, diagonal + 1))
        j = diagonal - i
        before = np.minimum(np.minimum(total[i, j + 1], total[i + 1, j]), total[i, j])
        total[i + 1, j + 1] = cost[i, j] + before
    return float(total[-1, -1])


def ndtw(
    path: Float[np.ndarray, "step size"], reference: Float[np.ndarray, "point size"], *, success_m: float = 3.0
) -> float:
    """Normalised dynamic time warping: 1 for the very way that was meant, towards 0 the further a way strays from it.

    As in VLN-CE, distances are straight lines and a robot that stands still adds no place. The alignment is the exact
    one, where VLN-CE's code may take an approximation (fastdtw).

    Args:
        path: Places of the robot [m].
        reference: Places of the way that was meant [m].
        success_m: Distance at which a place counts as reached [m].

    Returns:
        exp(-DTW / (places of the reference * success_m)), in [0, 1].

    Raises:
        DataError: If a path is empty or not finite.
        ShapeError: If the two have other axes.
        SettingError: If `success_m` is not above 0.

    Examples:
        >>> way = np.array([[0.0, 0.0], [3.0, 0.0]])
        >>> ndtw(way, way), round(ndtw(way + [0.0, 3.0], way), 4)
        (1.0, 0.3679)

    Source:
        Ilharco et al. 2019, arXiv 1907.05446.
    """
    _check_path("path", path)
    _check_path("reference", reference)
    if path.shape[1] != reference.shape[1]:
        raise ShapeError(
            f"reference must have the axes of path, got {reference.shape[1]} and {path.shape[1]}. Leave the height out "
            "of both, or of neither."
        )
    if not 0 < success_m < math.inf:
        raise SettingError(f"success_m must be above 0 and finite, got {success_m}. R2R has 3 m.")
    moved = np.concatenate([[True], (path[1:] != path[:-1]).any(axis=1)])
    cost = np.linalg.norm(path[moved][:, None] - reference[None], axis=-1)
    return math.exp(-dynamic_time_warping(cost) / (len(reference) * success_m))


def _check_path(argument: str, path: Float[np.ndarray, "step size"]) -> None:
    if path.ndim != 2:
        raise ShapeError(f"{argument} must have the shape (step, size), got {path.shape}. Give one row per place.")
    if len(path) == 0:
        raise DataError(f"{argument} must hold at least one place, got none. Begin it with the start.")
    if not np.isfinite(path).all():
        raise DataError(f"{argument} must be finite, got {_broken(path)}. Drop the episode.")


def _broken(path: Float[np.ndarray, "step size"]) -> Sequence[float]:
    row: Sequence[float] = path[~np.isfinite(path).all(axis=1)][0].tolist()
    return row
