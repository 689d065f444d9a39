"""One HTML file that shows an evaluation: curves, success rates with intervals, videos. It needs no other file."""

import base64
import tempfile
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import UInt8

from vla_kit.data.video_pyav import PyAVEncoder
from vla_kit.evaluation.atomic import write_atomically
from vla_kit.evaluation.curves import Curve, draw_curves
from vla_kit.evaluation.rollout import EpisodeResult
from vla_kit.evaluation.table import EvaluationTable, SuccessCount

__all__ = ["write_report"]

_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;width:100%}th,td{padding:.35rem .6rem;border-bottom:1px solid #ddd;text-align:left}
svg{width:100%;height:auto;margin:.5rem 0}svg text{font:12px system-ui,sans-serif;fill:#444}svg .title{font-weight:600}
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
    videos: Sequence[EpisodeResult] = (),
    rate_hz: float = 10.0,
) -> None:
    """Write the report, whole or not at all.

    Args:
        path: HTML file to write or replace.
        table: Success rates and times.
        title: Heading.
        notes: Paragraphs below the heading: what was trained on what, on which machine.
        curves: Title of a chart -> label -> points, see `read_curve`.
        videos: Episodes to show; those without pictures are left out.
        rate_hz: Frames per second of the videos.

    Examples:
        >>> from vla_kit.evaluation.table import TaskRow
        >>> row = TaskRow(name="metaworld/reach", embodiment="metaworld_sawyer", policy=SuccessCount(9, 10))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_report(f"{folder}/report.html", EvaluationTable(tasks=[row], seconds={}), title="Demo")
        ...     "90%" in Path(f"{folder}/report.html").read_text()
        True
    """
    body = [
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(note)}</p>" for note in notes),
        "<h2>Success</h2>",
        _table(table),
        "<p>Rates with Wilson's 95 % interval and counts. Expert: the scripted demonstrator. Random: uniform random "
        "actions. Other sentence: the policy is told the sentence of the task that shares the scene, and success is "
        "still that of the row; a policy that listens is low there.</p>",
        *(["<h2>Curves</h2>"] if curves else []),
        *(draw_curves(lines, title=name) for name, lines in (curves or {}).items()),
    ]
    shown = [(result, result.pictures) for result in videos if result.pictures is not None]
    if shown:
        body += ["<h2>Episodes</h2>", *(_figure(result, pictures, rate_hz) for result, pictures in shown)]
    if table.seconds:
        rows = "".join(
            f"<tr><td>{escape(part)}</td><td>{value / 60:.1f} min</td></tr>" for part, value in table.seconds.items()
        )
        body += ["<h2>Time</h2>", f"<table>{rows}</table>"]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )
    write_atomically(Path(path), page)


def _table(table: EvaluationTable) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("Task", "Robot", "Policy", "", "Expert", "Random", "Other sentence"))
    rows = "".join(
        f"<tr><td>{escape(task.name)}</td><td>{escape(task.embodiment)}</td><td>{task.policy}</td>"
        f'<td style="width:8rem">{_bar(task.policy)}</td>'
        + "".join(f"<td>{_cell(count)}</td>" for count in (task.expert, task.random, task.swapped))
        + "</tr>"
        for task in table.tasks
    )
    return f"<table><tr>{head}</tr>{rows}</table>"


def _cell(count: SuccessCount | None) -> str:
    return "" if count is None else f"{count.rate:.0%}, {count.successes}/{count.episodes}"


def _bar(count: SuccessCount) -> str:
    low, high = count.interval
    return (
        f'<div class="bar"><b style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></b>'
        f'<i style="left:calc({100 * count.rate:.1f}% - 1px)"></i></div>'
    )


def _figure(result: EpisodeResult, pictures: UInt8[np.ndarray, "step height image_width 3"], rate_hz: float) -> str:
    words = f"{result.task}, seed {result.seed}: {'success' if result.success else 'failure'}, “{result.instruction}”"
    return (
        f'<figure><video controls loop muted autoplay playsinline src="data:video/mp4;base64,'
        f'{_mp4(pictures, rate_hz)}"></video><figcaption>{escape(words)}</figcaption></figure>'
    )


def _mp4(pictures: UInt8[np.ndarray, "step height image_width 3"], rate_hz: float) -> str:
    """Pictures as base64 of an h264 file; an odd row or column is cut off, since 4:2:0 cannot hold it."""
    height, width = (size // 2 * 2 for size in pictures.shape[1:3])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "episode.mp4"
        with PyAVEncoder(path, rate_hz=rate_hz, height=height, width=width, crf=23, keyframe_interval=30) as encoder:
            encoder.write(np.ascontiguousarray(pictures[:, :height, :width]))
        return base64.b64encode(path.read_bytes()).decode("ascii")
