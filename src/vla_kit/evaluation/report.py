"""One HTML file that shows an evaluation: curves, success rates with intervals, videos. It needs no other file."""

import base64
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

from vla_kit.data.whole_file import write_whole
from vla_kit.errors import SettingError
from vla_kit.evaluation.curves import Curve, draw_curves
from vla_kit.evaluation.rollout import EpisodeResult
from vla_kit.evaluation.table import EvaluationTable, SuccessCount
from vla_kit.evaluation.video import encode_mp4

__all__ = ["write_report"]

_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;max-width:66rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;width:100%;font-size:.9rem}th,td{padding:.35rem .6rem;text-align:left}
th,td{border-bottom:1px solid #ddd;font-variant-numeric:tabular-nums}
svg{width:49%;min-width:24rem;height:auto;margin:.5rem 0}
svg text{font:12px system-ui,sans-serif;fill:#444}svg .title{font-weight:600}
.counts td,.counts th{white-space:nowrap}
figure{display:inline-block;margin:.5rem;width:13rem;vertical-align:top}figcaption{font-size:.8rem;color:#555}
video{width:100%;image-rendering:pixelated;background:#000}.bar{background:#eee;height:.6rem;position:relative}
.bar b{position:absolute;height:100%;background:#9fc3e3}
.bar i{position:absolute;height:100%;width:3px;background:#1f6fb2}
"""


def write_report(
    path: str | Path,
    table: EvaluationTable,
    *,
    title: str,
    notes: Sequence[str] = (),
    curves: Mapping[str, Mapping[str, Curve]] | None = None,
    episodes: Sequence[EpisodeResult] = (),
    rate_hz: float = 10.0,
) -> None:
    """Write the report, whole or not at all.

    Args:
        path: HTML file to write or replace.
        table: Success rates and times.
        title: Heading.
        notes: Paragraphs below the heading: what was trained on what, on which machine.
        curves: Title of a chart -> label -> points, see `read_curve`.
        episodes: Episodes of the policy: those with pictures are shown, those with an error are named.
        rate_hz: Frames per second of the videos.

    Raises:
        SettingError: If `rate_hz` is not positive and finite.
        DataError: If the file cannot be written.

    Examples:
        >>> import tempfile
        >>> from vla_kit.evaluation.table import TaskRow
        >>> row = TaskRow(name="metaworld/reach", embodiment="metaworld_sawyer", policy=SuccessCount(9, 10))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_report(f"{folder}/report.html", EvaluationTable(tasks=[row], seconds={}), title="Demo")
        ...     "90%" in Path(f"{folder}/report.html").read_text()
        True
    """
    if not 0 < rate_hz < math.inf:
        raise SettingError(f"rate_hz must be above 0 and finite, got {rate_hz}. Use 10.")
    body = [
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(note)}</p>" for note in notes),
        "<h2>Success</h2>",
        _table(table),
        "<p>Rates with Wilson's 95 % interval and counts. Expert: the scripted demonstrator. Random: uniform random "
        "actions. Other sentence: the policy is told the sentence of the task that shares the scene, and success is "
        "still that of the row; a policy that listens is low there. An error is an episode whose environment failed "
        "twice; rates leave it out.</p>",
        *(["<h2>Under change</h2>", _shifts(table)] if table.shifts else []),
        *(["<h2>Navigation</h2>", _navigation(table)] if any(task.navigation for task in table.tasks) else []),
        *_errors(episodes),
        *(["<h2>Curves</h2>"] if curves else []),
        *(draw_curves(lines, title=name) for name, lines in (curves or {}).items()),
    ]
    shown = [_figure(result, rate_hz) for result in episodes if result.pictures is not None]
    if shown:
        body += ["<h2>Episodes</h2>", *shown]
    if table.seconds:
        times = {**table.seconds, "together": sum(table.seconds.values())}
        rows = "".join(
            f"<tr><td>{escape(part)}</td><td>{value / 60:.1f} min</td></tr>" for part, value in times.items()
        )
        body += ["<h2>Time</h2>", f"<table>{rows}</table>"]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )
    write_whole(path, page)


def _table(table: EvaluationTable) -> str:
    names = ("Task", "Robot", "Policy", "", "Expert", "Random", "Other sentence", "Errors")
    head = "".join(f"<th>{name}</th>" for name in names)
    rows = "".join(
        f"<tr><td>{escape(task.name)}</td><td>{escape(task.embodiment)}</td><td>{task.policy}</td>"
        f'<td style="width:6rem">{_bar(task.policy)}</td>'
        + "".join(f"<td>{_cell(count)}</td>" for count in (task.expert, task.random, task.swapped))
        + f"<td>{task.errors or ''}</td></tr>"
        for task in table.tasks
    )
    several = Counter(task.embodiment for task in table.tasks)
    rows += "".join(
        f"<tr><th>All {several[robot]} tasks</th><th>{escape(robot)}</th><th>{count}</th><td>{_bar(count)}</td>"
        '<td colspan="4"></td></tr>'
        for robot, count in table.robots.items()
        if several[robot] > 1
    )
    return f"<table class='counts'><tr>{head}</tr>{rows}</table>"


def _cell(count: SuccessCount | None) -> str:
    if count is None:
        return ""
    return f"{count.rate:.0%}, {count.successes}/{count.episodes}" if count.episodes else "none ran"


def _bar(count: SuccessCount) -> str:
    if not count.episodes:
        return ""
    low, high = count.interval
    return (
        f'<div class="bar"><b style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></b>'
        f'<i style="left:calc({100 * count.rate:.1f}% - 1px)"></i></div>'
    )


def _navigation(table: EvaluationTable) -> str:
    """A row per task and actor, with the columns of table 7 of the paper."""
    names = ("Task", "Who", "Success", "Oracle success", "SPL", "Error [m]", "Length [m]", "nDTW")
    head = "".join(f"<th>{name}</th>" for name in names)
    rows = "".join(
        f"<tr><td>{escape(task.name)}</td><td>{escape(who)}</td>"
        f"<td>{one['success']:.0%}</td><td>{one['oracle_success']:.0%}</td><td>{one['spl']:.3f}</td>"
        f"<td>{one['navigation_error_m']:.2f}</td><td>{one['trajectory_length_m']:.2f}</td><td>{one['ndtw']:.3f}</td></tr>"
        for task in table.tasks
        for who, one in task.navigation.items()
    )
    return f"<table><tr>{head}</tr>{rows}</table>"


def _shifts(table: EvaluationTable) -> str:
    """A column per change, as in table 6 of the paper, and the change of all tasks together."""
    pooled = table.shifts
    head = "".join(f"<th>{escape(name)}</th>" for name in ("Task", "No change", *pooled))
    rows = "".join(
        f"<tr><td>{escape(task.name)}</td>"
        + "".join(f"<td>{count or ''}</td>" for count in (task.policy, *map(task.shifts.get, pooled)))
        + "</tr>"
        for task in table.tasks
        if task.shifts
    )
    changes = "".join(f"<td>{_points(changed, plain)}</td>" for changed, plain in pooled.values())
    return (
        f"<table><tr>{head}</tr>{rows}<tr><th>All, percentage points</th><td></td>{changes}</tr></table>"
        "<p>The same seeds under one change each. The last row is the difference to the same tasks without the change, "
        "with Newcombe's 95 % interval; one that includes 0 leaves open whether the change matters.</p>"
    )


def _points(changed: SuccessCount, plain: SuccessCount) -> str:
    difference = changed.minus(plain)
    if difference is None:
        return ""
    return f"{100 * difference.difference:+.0f} ({100 * difference.low:+.0f} to {100 * difference.high:+.0f})"


def _errors(episodes: Sequence[EpisodeResult]) -> list[str]:
    rows = "".join(
        f"<tr><td>{escape(result.task)}, seed {result.seed}</td><td>{escape(result.error)}</td></tr>"
        for result in episodes
        if result.error is not None
    )
    return ["<h2>Errors</h2>", f"<table>{rows}</table>"] if rows else []


def _figure(result: EpisodeResult, rate_hz: float) -> str:
    words = f"{result.task}, seed {result.seed}: {'success' if result.success else 'failure'}, “{result.instruction}”"
    assert result.pictures is not None  # noqa: S101 (callers leave others out)
    encoded = base64.b64encode(encode_mp4(result.pictures, rate_hz=rate_hz)).decode("ascii")
    return (
        f'<figure><video controls loop muted autoplay playsinline src="data:video/mp4;base64,{encoded}"></video>'
        f"<figcaption>{escape(words)}</figcaption></figure>"
    )
