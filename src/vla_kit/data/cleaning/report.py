"""One HTML file that shows what cleaning found: histograms, and pictures of what was dropped and of what nearly was."""

import inspect
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from vla_kit.data.cleaning._histogram import draw_histogram
from vla_kit.data.cleaning._thumbnails import thumbnails
from vla_kit.data.cleaning.decisions import Decisions
from vla_kit.data.cleaning.findings import Findings, RuleFindings
from vla_kit.data.whole_file import write_whole
from vla_kit.errors import DataError, SettingError

__all__ = ["write_cleaning_report"]

_STYLE: Final = """
:root{color-scheme:light dark;--page:#f6f7f9;--card:#fff;--ink:#1d2430;--soft:#5d6778;--line:#dfe3ea;
--kept:#7aa7d9;--dropped:#d9483b;--near:#d99a1c;--fine:#2f8f5b;--frame:#e9ecf1}
@media(prefers-color-scheme:dark){:root{--page:#14171c;--card:#1d2128;--ink:#e6e9ee;--soft:#9aa4b2;--line:#323844;
--kept:#4f81b8;--dropped:#ea6a5c;--near:#e3b04b;--fine:#55b884;--frame:#2a303a}}
*{box-sizing:border-box}
body{font:15px/1.55 system-ui,sans-serif;max-width:68rem;margin:0 auto;padding:2.2rem 1.2rem 4rem;color:var(--ink);
background:var(--page)}
h1{font-size:1.7rem;line-height:1.2;margin:0 0 .3rem}h2{font-size:1.12rem;margin:0}
h3{font-size:.82rem;font-weight:600;color:var(--soft);margin:1.1rem 0 .5rem}
p{margin:.4rem 0}.soft{color:var(--soft)}code{font:.85em ui-monospace,monospace;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(10.5rem,1fr));gap:.8rem;margin:1.4rem 0}
.tile,.card{background:var(--card);border:1px solid var(--line);border-radius:10px}
.tile{padding:.8rem 1rem}.tile b{display:block;font-size:1.55rem;line-height:1.25;font-variant-numeric:tabular-nums}
.tile span{font-size:.85rem;color:var(--soft)}
.card{padding:1.1rem 1.25rem 1.2rem;margin:1rem 0}
.bar{height:10px;border-radius:5px;background:var(--dropped);overflow:hidden;margin:0 0 1.4rem}
.bar i{display:block;height:100%;background:var(--kept)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:.42rem .6rem;border-bottom:1px solid var(--line);text-align:right}
tr:last-child td{border-bottom:0}
th{font-size:.8rem;font-weight:600;color:var(--soft)}th:first-child,td:first-child{text-align:left}
a{color:inherit;text-decoration-color:var(--line);text-underline-offset:3px}
.bad{color:var(--dropped);font-weight:600}.zero{color:var(--soft)}
.head{display:flex;justify-content:space-between;align-items:baseline;gap:1rem;flex-wrap:wrap}
.pill{display:inline-block;font-size:.75rem;font-weight:600;border-radius:99px;padding:.08rem .6rem;color:var(--card);
background:var(--soft)}
.pill.dropped{background:var(--dropped)}.pill.near{background:var(--near)}.pill.fine{background:var(--fine)}
svg{width:100%;height:auto;display:block;margin:.6rem 0 .2rem}
svg text{font:11.5px system-ui,sans-serif;fill:var(--soft)}svg .kept{fill:var(--kept)}svg .dropped{fill:var(--dropped)}
svg{overflow:visible}.quiet svg text{font-size:18px}
svg .grid{stroke:var(--line)}svg .axis{stroke:var(--soft)}
svg line.threshold{stroke:var(--ink);stroke-width:1.5;stroke-dasharray:5 3}
svg text.threshold{fill:var(--ink);font-weight:600}
.quiet{display:grid;grid-template-columns:repeat(auto-fit,minmax(27rem,1fr));gap:1rem}
.quiet .card{margin:0}.all{color:var(--soft)}.all b{color:var(--ink)}
@media(max-width:32rem){.quiet{grid-template-columns:1fr}}
.note{border-left:3px solid var(--near);padding:.15rem .8rem;margin:.7rem 0;color:var(--soft);font-size:.9rem}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(19rem,1fr));gap:.9rem}
figure{margin:0;border:1px solid var(--line);border-radius:8px;overflow:hidden}
.frames{display:grid;grid-template-columns:repeat(3,1fr);gap:2px;background:var(--line)}
.frames img,.frames div{width:100%;aspect-ratio:4/3;object-fit:cover;display:block;background:var(--frame)}
.frames div{display:grid;place-items:center;font-size:.72rem;color:var(--soft);text-align:center}
.pill+b{margin-left:.25rem}
figcaption{padding:.5rem .7rem .6rem;font-size:.84rem}figcaption .soft{display:block;font-size:.8rem}
footer{margin-top:2rem;font-size:.85rem;color:var(--soft)}
"""


def write_cleaning_report(path: str | Path, findings: Findings, decisions: Decisions, *, examples: int = 6) -> None:
    """Write the report, whole or not at all. It needs no other file and no script.

    Args:
        path: HTML file to write or replace; folders are made.
        findings: What the rules found.
        decisions: What was decided, edits of a person included.
        examples: Episodes to show per rule among the dropped ones; half as many among those that nearly were.

    Raises:
        SettingError: If `examples` is negative.
        DataError: If the file cannot be written.

    Examples:
        >>> import numpy as np
        >>> from vla_kit.data.cleaning import MinimumFrames, find_faults, find_roles
        >>> from vla_kit.data.memory_source import MemoryEpisode, MemorySource
        >>> source = MemorySource([MemoryEpisode(columns={"action": np.zeros((3, 1))})], name="short")
        >>> findings = find_faults(source, [MinimumFrames()], roles=find_roles(source))
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_cleaning_report(f"{folder}/report.html", findings, findings.decisions())
        ...     "short" in Path(f"{folder}/report.html").read_text()
        True
    """
    if examples < 0:
        raise SettingError(f"examples must be at least 0, got {examples}. Use 6.")
    gallery = _Gallery(findings, decisions)
    loud = [each for each in findings.rules if each.dropped or each.nearly_dropped]
    quiet = [each for each in findings.rules if not (each.dropped or each.nearly_dropped)]
    title = f"Cleaning of {findings.source.name}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(findings.source.location)} · fingerprint '
        f"<code>{findings.source.fingerprint}</code></p>",
        _tiles(findings, decisions),
        _summary(findings, decisions),
        *(_section(each, gallery, examples) for each in loud),
        *(
            [f'<div class="quiet">{"".join(_section(each, gallery, examples) for each in quiet)}</div>']
            if quiet
            else []
        ),
        "<footer>The data were not touched. Readers leave out the episodes of the decision file beside this report; "
        'set <code>"keep": true</code> there, or delete a line, to keep an episode.</footer>',
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )
    write_whole(path, page)


class _Gallery:
    """Figures of episodes; the pictures of an episode are read once."""

    def __init__(self, findings: Findings, decisions: Decisions) -> None:
        self._source, self._roles = findings.source, findings.roles
        self._kept = {(entry.rule, entry.episode) for entry in decisions.entries if entry.keep}
        self._pictures: dict[int, list[str | None]] = {}

    def draw(self, found: RuleFindings, episodes: Sequence[int], *, near: bool) -> str:
        return f'<div class="gallery">{"".join(self._figure(found, index, near) for index in episodes)}</div>'

    def _figure(self, found: RuleFindings, index: int, near: bool) -> str:
        if index not in self._pictures:
            camera = self._roles.cameras[0] if self._roles.cameras else None
            self._pictures[index] = thumbnails(self._source, index, camera=camera)
        frames = "".join(
            f'<img src="{url}" alt="{name} frame">' if url else f"<div>{name} frame<br>cannot be read</div>"
            for name, url in zip(("first", "middle", "last"), self._pictures[index], strict=False)
        )
        if near:
            pill = '<span class="pill near">nearly</span>'
        elif (found.rule.name, index) in self._kept:
            pill = '<span class="pill fine">kept by hand</span>'
        else:
            pill = '<span class="pill dropped">dropped</span>'
        length, rate = int(self._source.lengths[index]), self._source.rate_hz
        time = f"{length} frames" + (f", {length / rate:.1f} s" if rate else "")
        return (
            f"<figure>{f'<div class=frames>{frames}</div>' if frames else ''}"
            f"<figcaption>{pill} <b>Episode {index}</b> · {found.judgement.values[index]:.4g}"
            f'<span class="soft">{time} · {self._sentence(index)}</span></figcaption></figure>'
        )

    def _sentence(self, index: int) -> str:
        try:
            sentence = self._source.instruction_at(index, 0) if self._source.lengths[index] else ""
        except (DataError, OSError):
            return "sentence cannot be read"
        return f"“{escape(sentence)}”" if sentence.strip() else "no sentence"


def _tiles(findings: Findings, decisions: Decisions) -> str:
    lengths, rate = findings.lengths, findings.source.rate_hz
    dropped = sorted(decisions.dropped)
    kept_frames = int(lengths.sum() - lengths[dropped].sum())
    unit = f"hours kept of {lengths.sum() / rate / 3600:.4g}" if rate else f"frames kept of {int(lengths.sum())}"
    near = {index for each in findings.rules for index in each.nearly_dropped} - set(dropped)
    by_hand = {entry.episode for entry in decisions.entries if entry.keep} - set(dropped)
    tiles = [
        (f"{len(lengths) - len(dropped)}", f"episodes kept of {len(lengths)}"),
        (f"{kept_frames / rate / 3600:.4g}" if rate else f"{kept_frames}", unit),
        (f"{len(dropped)}", "episodes dropped"),
        (f"{len(near)}", "episodes nearly dropped"),
        *([(f"{len(by_hand)}", "episodes kept by hand")] if by_hand else []),
    ]
    share = kept_frames / max(int(lengths.sum()), 1)
    return (
        '<div class="tiles">'
        + "".join(f'<div class="tile"><b>{value}</b><span>{text}</span></div>' for value, text in tiles)
        + f'</div><div class="bar" role="img" aria-label="{share:.1%} of the frames are kept">'
        f'<i style="width:{100 * share:.2f}%"></i></div>'
    )


def _summary(findings: Findings, decisions: Decisions) -> str:
    def count(number: int, *, bad: bool = False) -> str:
        kind = "zero" if not number else "bad" if bad else ""
        return f'<td class="{kind}">{number}</td>'

    rows = []
    for each in findings.rules:
        unmeasured = sum(value is None for value in each.judgement.values)
        limit = each.rule.limit
        rows.append(
            f'<tr><td><a href="#{each.rule.name}">{_words(each.rule.name)}</a></td>'
            f"<td>{'at most' if limit.drops == 'above' else 'at least'} {limit.threshold:.4g}</td>"
            f"{count(len(each.dropped), bad=True)}{count(len(each.nearly_dropped))}{count(unmeasured)}</tr>"
        )
    by_hand = {entry.episode for entry in decisions.entries if entry.rule not in {r.rule.name for r in findings.rules}}
    if by_hand:
        rows.append(f"<tr><td>Added by hand</td><td></td>{count(len(by_hand), bad=True)}<td></td><td></td></tr>")
    head = "".join(f"<th>{name}</th>" for name in ("Rule", "Stays", "Dropped", "Nearly", "Not measured"))
    return f'<div class="card"><table><tr>{head}</tr>{"".join(rows)}</table></div>'


def _section(found: RuleFindings, gallery: _Gallery, examples: int) -> str:
    values = [value for value in found.judgement.values if value is not None]
    dropped, near = found.dropped, found.nearly_dropped
    first_line = (inspect.getdoc(type(found.rule)) or "").split("\n\n")[0].replace("\n", " ").replace("`", "")
    parts = [
        f'<section class="card" id="{found.rule.name}"><div class="head"><h2>{_words(found.rule.name)}</h2>'
        + (f'<span class="pill dropped">{len(dropped)} dropped</span>' if dropped else "")
        + f'</div><p class="soft">{escape(first_line)}</p>',
        _distribution(found, values),
    ]
    if found.judgement.note:
        parts.append(f'<p class="note">{escape(found.judgement.note)}</p>')
    if found.unmeasured:
        index, why = next(iter(found.unmeasured.items()))
        parts.append(
            f'<p class="note">Could not be measured: {len(found.unmeasured)} of {len(found.judgement.values)} '
            f"episodes. The first is episode {index}: {escape(why)}</p>"
        )
    for title, episodes, shown, is_near in (
        ("Dropped, worst first", dropped, examples, False),
        ("Nearly dropped, nearest first", near, max(1, examples // 2), True),
    ):
        if episodes and shown:
            more = f" ({shown} of {len(episodes)})" if len(episodes) > shown else ""
            parts += [f"<h3>{title}{more}</h3>", gallery.draw(found, episodes[:shown], near=is_near)]
    return "".join([*parts, "</section>"])


def _distribution(found: RuleFindings, values: Sequence[float]) -> str:
    if not values:
        return '<p class="all">No episode has a value.</p>'
    if len(set(values)) == 1 and not found.dropped:
        return (
            f'<p class="all">{len(values)} episodes, all <b>{values[0]:.4g}</b> '
            f"<span>({escape(found.rule.quantity)})</span></p>"
        )
    return draw_histogram(values, found.rule.limit, quantity=found.rule.quantity)


def _words(name: str) -> str:
    return escape(name.replace("_", " ").capitalize())
