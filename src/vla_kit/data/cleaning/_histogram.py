"""A histogram with a threshold, as SVG."""

import math
from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from vla_kit.data.cleaning.rule import Limit

__all__ = ["draw_histogram"]

_WIDTH: Final = 720
_HEIGHT: Final = 200
_LEFT: Final = 44
_RIGHT: Final = 16
_TOP: Final = 26
_BOTTOM: Final = 44
_BINS: Final = 48
_FAR_APART: Final = 30  # a ratio that a linear axis cannot show


def draw_histogram(values: Sequence[float], limit: Limit, *, quantity: str) -> str:
    """Draw how many episodes have which value, those that drop in another colour.

    The axis is logarithmic where the threshold and the values lie far apart; zeros then stand at its left end. The
    threshold is the edge of a bar, and a bar that holds an episode is never too low to be seen. Colours come from the
    style of the page.

    Args:
        values: One finite value per episode.
        limit: Threshold and its side.
        quantity: Label of the axis.

    Returns:
        An `<svg>` element without any reference to other files.

    Examples:
        >>> svg = draw_histogram([0.1, 0.2, 0.9], Limit(0.5), quantity="share")
        >>> svg.startswith("<svg"), svg.count('class="dropped"')
        (True, 1)
    """
    array = np.asarray(values, dtype=np.float64)
    logarithmic = _is_logarithmic(array, limit.threshold)
    floor = min(float(array[array > 0].min()), limit.threshold) / 3 if logarithmic else 0.0

    def scaled(value: float) -> float:
        return math.log10(max(value, floor)) if logarithmic else value

    places = np.array([scaled(value) for value in array])
    bound = scaled(limit.threshold)
    low, high = min(float(places.min()), bound), max(float(places.max()), bound)
    if not logarithmic and low > 0 and low < 0.5 * high:
        low = 0.0
    margin = 0.03 * (high - low) or 0.5 * (abs(high) or 1.0)
    low, high = low - margin, high + margin

    def at(place: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (place - low) / (high - low)

    size = (high - low) / _BINS
    steps = (places - bound) / size
    bins = (np.ceil(steps) - 1 if limit.drops == "above" else np.floor(steps)).astype(int)
    counts = Counter(bins.tolist())
    tallest = max(counts.values())
    foot, room = _HEIGHT - _BOTTOM, _HEIGHT - _TOP - _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="Histogram: {escape(quantity)}">'
    ]
    for count in sorted({tallest, tallest // 2} - {0}):
        y = foot - room * count / tallest
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{count}</text>')
    for place, count in sorted(counts.items()):
        name = "dropped" if (place >= 0) == (limit.drops == "above") else "kept"
        tall = max(3.0, room * count / tallest)
        parts.append(
            f'<rect class="{name}" x="{at(bound + place * size) + 0.75:.1f}" y="{foot - tall:.1f}" '
            f'width="{(_WIDTH - _LEFT - _RIGHT) / _BINS - 1.5:.1f}" height="{tall:.1f}" rx="1.5">'
            f"<title>{count} episode{'s' if count > 1 else ''} {name}</title></rect>"
        )
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{foot}" y2="{foot}"/>')
    for tick in _ticks(low, high, logarithmic):
        label = f"{10**tick if logarithmic else tick:.4g}"
        parts.append(f'<text x="{at(tick):.1f}" y="{foot + 16}" text-anchor="middle">{label}</text>')
    if logarithmic and (array == 0).any():
        parts.append(f'<text x="{at(scaled(0)):.1f}" y="{foot + 16}" text-anchor="middle">0</text>')
    x = at(bound)
    words = f"drop above {limit.threshold:.4g} →" if limit.drops == "above" else f"← drop below {limit.threshold:.4g}"
    left = x > 0.75 * _WIDTH or (limit.drops == "below" and x > 0.25 * _WIDTH)
    anchor, shift = ("end", -6) if left else ("start", 6)
    parts += [
        f'<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 14}" y2="{foot}"/>',
        f'<text class="threshold" x="{x + shift:.1f}" y="{_TOP - 6}" text-anchor="{anchor}">{words}</text>',
        f'<text class="label" x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 6}" text-anchor="middle">'
        f"{escape(quantity)}</text></svg>",
    ]
    return "".join(parts)


def _is_logarithmic(values: Float[ndarray, " episode"], threshold: float) -> bool:
    positive = values[values > 0]
    if threshold <= 0 or not positive.size or (values < 0).any():
        return False
    return bool(positive.max() > _FAR_APART * threshold or threshold > _FAR_APART * np.median(positive))


def _ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    if logarithmic:
        powers = range(math.ceil(low), math.floor(high) + 1)
        step = max(1, len(powers) // 6)
        return [float(power) for power in powers][::step] or [(low + high) / 2]
    raw = (high - low) / 6
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= raw)
    first = math.ceil(low / step)
    return [round(step * count, 12) for count in range(first, math.floor(high / step) + 1)]
