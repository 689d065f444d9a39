"""Training curves from a run's CSV logs, drawn as SVG."""

import csv
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

from vla_kit.errors import DataError

__all__ = ["draw_curves", "read_curve"]

Curve = Sequence[tuple[int, float]]

_WIDTH: Final = 640
_HEIGHT: Final = 260
_LEFT: Final = 64
_BOTTOM: Final = 34
_TOP: Final = 30
_RIGHT: Final = 20
_COLOURS: Final = ("#1f6fb2", "#d1641c", "#2e8b57", "#8a4fa3", "#b0304a", "#5c5c5c")


def read_curve(folder: str | Path, key: str) -> list[tuple[int, float]]:
    """Read one logged quantity of a run that may have been interrupted and resumed.

    Args:
        folder: Folder of the run; every `metrics.csv` below it counts. Where two starts of the run logged a step, the
            later start wins.
        key: Column, such as `train/loss`.

    Returns:
        (step, value) in the order of steps; empty where nothing was logged.

    Raises:
        DataError: If a file is no table of numbers.

    Examples:
        >>> read_curve("no/such/run", "train/loss")
        []
    """
    values: dict[int, float] = {}
    for path in sorted(Path(folder).rglob("metrics.csv"), key=lambda found: found.stat().st_mtime):
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            try:
                for row in rows:
                    if row.get(key) and row.get("step"):
                        values[int(row["step"])] = float(row[key])
            except (ValueError, csv.Error) as error:  # ValueError is that of a number and of UTF-8
                raise DataError(
                    f"line {rows.line_num} of {path} must hold numbers under step and {key}, got {error}. Remove it."
                ) from error
    return sorted(values.items())


def draw_curves(curves: Mapping[str, Curve], *, title: str) -> str:
    """Draw curves over steps into one SVG, with a logarithmic axis where all values are above 0.

    Args:
        curves: Label -> points (step, value). Values that are not finite are left out.
        title: What is drawn.

    Returns:
        An `<svg>` element without any reference to other files.

    Examples:
        >>> svg = draw_curves({"train": [(0, 1.0), (10, 0.1)]}, title="loss")
        >>> svg.startswith("<svg"), "polyline" in svg
        (True, True)
    """
    drawn = {label: [point for point in curve if math.isfinite(point[1])] for label, curve in curves.items()}
    drawn = {label: curve for label, curve in drawn.items() if curve}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title)}"><text x="{_LEFT}" y="16" class="title">{escape(title)}</text>'
    ]
    if not drawn:
        return "".join([*parts, f'<text x="{_LEFT}" y="{_HEIGHT // 2}">nothing was logged</text></svg>'])
    values = [value for curve in drawn.values() for _, value in curve]
    steps = [step for curve in drawn.values() for step, _ in curve]
    logarithmic = min(values) > 0
    scale = math.log10 if logarithmic else float
    low, high = scale(min(values)), scale(max(values))
    margin = 0.05 * (high - low) or 0.5
    low, high = low - margin, high + margin
    last = max(max(steps), 1)

    def place(step: float, value: float) -> tuple[float, float]:
        x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * step / last
        return x, _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (scale(value) - low) / (high - low)

    for value in _decades(10**low, 10**high) if logarithmic else _round_numbers(low, high):
        _, y = place(0, value)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for step in _round_numbers(0, last):
        x, _ = place(step, values[0])
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 12}" text-anchor="middle">{step:g}</text>')
    for index, (label, curve) in enumerate(drawn.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        points = " ".join("{:.1f},{:.1f}".format(*place(step, value)) for step, value in curve)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        x, y = place(*curve[-1])
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>')
        parts.append(
            f'<text x="{_WIDTH - _RIGHT}" y="{_TOP + 4 + 15 * index}" text-anchor="end" style="fill:{colour}">'
            f"{escape(label)}</text>"
        )
    return "".join([*parts, "</svg>"])


def _round_numbers(low: float, high: float) -> list[float]:
    """Two to six multiples of 1, 2, 2.5 or 5 times a power of ten, within [low, high]."""
    raw = (high - low) / 5
    power = 10 ** math.floor(math.log10(raw))
    distance = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw)
    return [distance * count for count in range(math.ceil(low / distance), math.floor(high / distance) + 1)]


def _decades(low: float, high: float) -> list[float]:
    """Powers of ten within [low, high], their doubles and halves too where they are few; round numbers in a decade."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 2, 5)):
        found = [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
        if len(found) >= 3:
            return found
    return _round_numbers(low, high)
