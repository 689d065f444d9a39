"""R2R and RxR: routes over Matterport3D's graphs, in words.

Users bring the files (`R2R_train.json`, `rxr_train_guide.jsonl.gz`).
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_kit.data.readers._json_files import json_field, read_json
from vla_kit.errors import DataError

__all__ = ["GraphRoute", "read_vln"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphRoute:
    """One instruction and the viewpoints that it describes.

    Args:
        route_id: `<path id>_<number of the instruction>` of R2R, the instruction's id of RxR.
        scan: Name of the Matterport3D scan.
        viewpoints: Viewpoints from start to goal; the start alone in splits whose goals are kept secret.
        start_heading_rad: Direction at the start, clockwise from the scan's y axis, as these files have it [rad].
        instruction: The words.
        language: Such as `en-US`; R2R is English.

    Examples:
        >>> route = GraphRoute(
        ...     route_id="1_0",
        ...     scan="s",
        ...     viewpoints=("a", "b"),
        ...     start_heading_rad=math.pi / 2,
        ...     instruction="go",
        ... )
        >>> round(route.start_theta_rad, 6)
        0.0
    """

    route_id: str
    scan: str
    viewpoints: tuple[str, ...]
    start_heading_rad: float
    instruction: str
    language: str = "en"

    @property
    def start_theta_rad(self) -> float:
        """Direction at the start as our waypoints count it: counter-clockwise from the scan's x axis [rad]."""
        return math.remainder(math.pi / 2 - self.start_heading_rad, 2 * math.pi)


def read_vln(path: str | Path, *, language: str | None = None) -> list[GraphRoute]:
    """Read a split of R2R or RxR.

    Episodes with an empty path, or without words, are left out with a warning.

    Args:
        path: `.json` of R2R or `.jsonl` of RxR, compressed or not.
        language: Keep routes in this language, such as `en`, which `en-US` and `en-IN` are too; all where None.

    Returns:
        One route per instruction, in the order of the file.

    Raises:
        DataError: If the file is missing or broken, an episode lacks a field, or no route is left.

    Warns:
        UserWarning: If episodes are left out.

    Source:
        R2R (Anderson et al. 2018, arXiv 1711.07280): `scan`, `path`, `path_id`, `heading`, three `instructions`. RxR
        (Ku et al. 2020, arXiv 2010.07954): one line per `instruction`, with `instruction_id` and `language`.
    """
    place = Path(path)
    rows = read_json(place)
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise DataError(
            f"{place} must hold a list of episodes, got a {type(rows).__name__}. Use read_vln_ce for VLN-CE."
        )
    routes: list[GraphRoute] = []
    empty: list[str] = []
    for number, row in enumerate(rows):
        for name, words in _instructions(row, place, number):
            viewpoints = tuple(str(one) for one in _field(row, "path", place, number, list))
            if not viewpoints or not words.strip():
                empty.append(name)
                continue
            routes.append(
                GraphRoute(
                    route_id=name,
                    scan=str(_field(row, "scan", place, number)),
                    viewpoints=viewpoints,
                    start_heading_rad=_heading(row, place, number),
                    instruction=" ".join(words.split()),
                    language=str(row.get("language", "en")),
                )
            )
    if empty:
        warnings.warn(
            f"{place}: left out {len(empty)} episodes without a path or without words: {empty[:8]}", stacklevel=2
        )
    kept = [route for route in routes if language is None or _speaks(route.language, language)]
    if not kept:
        raise DataError(
            f"{place} must hold a route{'' if language is None else f' in {language!r}'}, got none of {len(rows)} "
            f"episodes, whose languages are {sorted({route.language for route in routes})}. Check the file."
        )
    return kept


def _instructions(row: Mapping[str, Any], place: Path, number: int) -> list[tuple[str, str]]:
    """Name and words of each instruction of an episode."""
    if "instruction" in row:
        return [(str(_field(row, "instruction_id", place, number)), str(row["instruction"] or ""))]
    path_id = _field(row, "path_id", place, number)
    words = _field(row, "instructions", place, number, list)
    return [(f"{path_id}_{index}", str(one or "")) for index, one in enumerate(words)]


def _heading(row: Mapping[str, Any], place: Path, number: int) -> float:
    heading = _field(row, "heading", place, number)
    if not isinstance(heading, int | float) or not math.isfinite(heading):
        raise DataError(f"{place}: heading of episode {number} must be finite, got {heading!r}. Drop the episode.")
    return float(heading)


def _field(row: Mapping[str, Any], key: str, place: Path, number: int, kind: type = object) -> Any:  # noqa: ANN401 (JSON)
    return json_field(row, key, kind, place=place, episode=number, remedy="Give a file of R2R or RxR.")


def _speaks(language: str, wanted: str) -> bool:
    return language == wanted or language.split("-")[0] == wanted
