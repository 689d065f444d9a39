"""Matterport3D's navigation graphs: where panoramas were taken, and between which one can walk.

Users bring the files `<scan>_connectivity.json`; the terms of Matterport3D forbid shipping them.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vla_kit.data._suggestion import suggestion
from vla_kit.data.readers._json_files import read_json
from vla_kit.errors import DataError

__all__ = ["NavigationGraph", "read_connectivity"]


class NavigationGraph:
    """Viewpoints of one scan and the straight ways between them.

    Args:
        scan: Name of the scan.
        positions: Viewpoint -> x, y, z [m], z up.
        neighbours: Viewpoint -> viewpoints that one can walk to; both directions are taken where one is given.
        without_position: Viewpoints that the file includes without saying where they are; no part of the graph.

    Raises:
        DataError: If there is no viewpoint, or a position is not three finite numbers.

    Examples:
        >>> line = {name: np.array([x, 0.0, 0.0]) for name, x in (("a", 0.0), ("b", 2.0), ("c", 5.0))}
        >>> graph = NavigationGraph("scan", positions=line, neighbours={"a": ["b"], "b": ["c"], "c": []})
        >>> graph.shortest_path("a", "c"), graph.distance("a", "c")
        (['a', 'b', 'c'], 5.0)
    """

    def __init__(
        self,
        scan: str,
        *,
        positions: Mapping[str, Float[np.ndarray, "3"]],
        neighbours: Mapping[str, Sequence[str]],
        without_position: Sequence[str] = (),
    ) -> None:
        self.scan = scan
        self.without_position = tuple(without_position)
        self._positions = {name: np.asarray(place, dtype=np.float64) for name, place in positions.items()}
        if not positions:
            raise DataError(
                f"positions must hold a viewpoint of {scan}, got none. Download the file of the scan again."
            )
        wrong = [name for name, at in self._positions.items() if at.shape != (3,) or not np.isfinite(at).all()]
        if wrong:
            raise DataError(
                f"positions must be three finite numbers each, got {positions[wrong[0]]} for {wrong[0]!r} of {scan}. "
                "Leave the viewpoint out."
            )
        self._edges: dict[str, dict[str, float]] = {name: {} for name in self._positions}
        for name, others in neighbours.items():
            for other in others:
                if name in self._edges and other in self._edges:
                    length = float(np.linalg.norm(self._positions[name] - self._positions[other]))
                    self._edges[name][other] = self._edges[other][name] = length

    @property
    def viewpoints(self) -> tuple[str, ...]:
        """Viewpoints that have a position."""
        return tuple(self._positions)

    def positions(self, path: Sequence[str]) -> Float[np.ndarray, "point 3"]:
        """Where the viewpoints of a path are [m].

        Raises:
            DataError: If the path is empty, or a viewpoint is unknown or has no position.
        """
        if len(path) == 0:
            raise DataError(f"path must hold at least one viewpoint of {self.scan}, got none. Drop the episode.")
        return np.stack([self._positions[self._known(name)] for name in path])

    def distance(self, start: str, goal: str) -> float:
        """Length of the shortest way over the graph [m]; inf where there is none.

        Use it in place of the `distance` of R2R, which is wrong for some paths.

        Raises:
            DataError: If a viewpoint is unknown or has no position.
        """
        return self._search(start, goal)[0]

    def shortest_path(self, start: str, goal: str) -> list[str]:
        """Viewpoints of the shortest way, both ends included.

        Raises:
            DataError: If a viewpoint is unknown or has no position, or the goal cannot be reached.
        """
        length, before = self._search(start, goal)
        if not math.isfinite(length):
            raise DataError(
                f"goal must be reached from {start!r} in {self.scan}, got {goal!r}, to which no way leads. Drop the "
                "episode."
            )
        path = [goal]
        while path[-1] != start:
            path.append(before[path[-1]])
        return path[::-1]

    def _known(self, name: str) -> str:
        if name in self._positions:
            return name
        if name in self.without_position:
            raise DataError(f"viewpoint {name!r} of {self.scan} must have a position, got none. Drop the episode.")
        raise DataError(f"viewpoint must be one of {self.scan}, got {name!r}. {suggestion(name, self._positions)}")

    def _search(self, start: str, goal: str) -> tuple[float, dict[str, str]]:
        far, before = {self._known(start): 0.0}, dict[str, str]()
        queue = [(0.0, start)]
        self._known(goal)
        while queue:
            length, name = heapq.heappop(queue)
            if name == goal:
                return length, before
            if length > far[name]:
                continue
            for other, edge in self._edges[name].items():
                if length + edge < far.get(other, math.inf):
                    far[other], before[other] = length + edge, name
                    heapq.heappush(queue, (far[other], other))
        return math.inf, before


def read_connectivity(path: str | Path) -> NavigationGraph:
    """Read `<scan>_connectivity.json`.

    Viewpoints that the file does not include are left out. So are those without a finite pose, with the ways to them;
    the graph lists them, and asking for one is an error.

    Args:
        path: The file, compressed or not.

    Returns:
        The graph, with the edges that are unobstructed.

    Raises:
        DataError: If the file is missing or is no such list.

    Source:
        The format of Matterport3DSimulator (Anderson et al. 2018, arXiv 1711.07280): per viewpoint `image_id`,
        `included`, `pose` as 16 numbers row by row, and `unobstructed` with an entry for each viewpoint of the list.
    """
    place = Path(path)
    rows = read_json(place)
    if not (isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)):
        raise DataError(
            f"{place} must hold a list of viewpoints, got a {type(rows).__name__}. Give a connectivity file."
        )
    scan = place.name.split("_connectivity")[0]
    positions: dict[str, np.ndarray] = {}
    without: list[str] = []
    for row in rows:
        name = _entry(row, "image_id", place, str)
        if not row.get("included", True):
            continue
        position = _position(row.get("pose"))
        if position is None:
            without.append(name)
        else:
            positions[name] = position
    names = [row["image_id"] for row in rows]
    neighbours: dict[str, list[str]] = {}
    for row in rows:
        open_to = _entry(row, "unobstructed", place, list)
        if len(open_to) != len(rows):
            raise DataError(
                f"{place}: unobstructed of {row['image_id']!r} must have an entry for each of the {len(rows)} "
                f"viewpoints, got {len(open_to)}. Download the file again."
            )
        neighbours[row["image_id"]] = [other for other, free in zip(names, open_to, strict=True) if free]
    return NavigationGraph(scan, positions=positions, neighbours=neighbours, without_position=without)


def _entry(row: Mapping[str, Any], key: str, place: Path, kind: type) -> Any:  # noqa: ANN401 (JSON)
    if not isinstance(row.get(key), kind):
        found = f"{row[key]!r:.80}" if key in row else sorted(row)
        raise DataError(
            f"{place}: every viewpoint must have {key!r}, a {kind.__name__}, got {found}. Give a connectivity file."
        )
    return row[key]


def _position(pose: Any) -> Float[np.ndarray, "3"] | None:  # noqa: ANN401 (JSON)
    """Last column of a 4 x 4 matrix that is stored row by row."""
    if not isinstance(pose, list) or len(pose) != 16:
        return None
    numbers = np.array([entry if isinstance(entry, int | float) else math.nan for entry in pose], dtype=np.float64)
    place: np.ndarray = numbers[[3, 7, 11]]
    return place if bool(np.isfinite(place).all()) else None
