"""Histograms, thumbnails and the page."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from vla_kit.data.cleaning import (
    Decision,
    Limit,
    MinimumFrames,
    MissingLanguage,
    UnreadableFrames,
    find_faults,
    find_roles,
    write_cleaning_report,
)
from vla_kit.data.cleaning._histogram import draw_histogram
from vla_kit.data.cleaning._thumbnails import thumbnails
from vla_kit.data.cleaning.findings import Findings
from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.errors import DataError


def heights(svg: str, kind: str) -> list[float]:
    return [float(height) for height in re.findall(rf'class="{kind}"[^>]* height="([\d.]+)"', svg)]


def test_every_episode_is_drawn_on_its_side_of_the_threshold():
    values = [*np.linspace(0, 1, 200), 3.0]
    svg = draw_histogram(values, Limit(2.0), quantity="share & more")
    titles = re.findall(r"<title>(\d+) episodes? (kept|dropped)</title>", svg)
    assert sum(int(count) for count, kind in titles if kind == "kept") == 200
    assert [count for count, kind in titles if kind == "dropped"] == ["1"]
    threshold = float(re.search(r'line class="threshold" x1="([\d.]+)"', svg)[1])
    bars = [(float(x), kind) for kind, x in re.findall(r'rect class="(\w+)" x="([\d.]+)"', svg)]
    assert {kind for x, kind in bars if x > threshold} == {"dropped"}
    assert max(x for x, kind in bars if kind == "kept") < threshold - 150, "1 lies far left of 2, of 3 in all"
    assert min(heights(svg, "dropped")) >= 3, "one among two hundred can be seen"
    assert "share &amp; more" in svg
    assert "drop above 2" in svg


def test_a_threshold_far_below_the_values_makes_the_axis_logarithmic_with_zero_at_its_end():
    svg = draw_histogram([0.0, 0.5, 0.6], Limit(1e-3, drops="below"), quantity="deviation")
    threshold = float(re.search(r'line class="threshold" x1="([\d.]+)"', svg)[1])
    bars = [(float(x), kind) for kind, x in re.findall(r'rect class="(\w+)" x="([\d.]+)"', svg)]
    assert [kind for x, kind in sorted(bars)] == ["dropped", "kept", "kept"]
    assert min(bars)[0] < threshold < max(bars)[0]
    assert ">0</text>" in svg


@pytest.mark.parametrize("values", [[0.0], [0.0, 0.0], [5.0], [-1.0, 1.0], [1e-9, 1e9]])
def test_odd_distributions_are_drawn(values: list[float]):
    for limit in (Limit(0.0), Limit(1.0), Limit(1e-3, drops="below")):
        svg = draw_histogram(values, limit, quantity="value")
        assert "nan" not in svg
        assert svg.count("<rect") >= 1


class Unreadable(MemorySource):
    def images(self, index, key, indices):
        if index == 0 and max(indices) > 7:
            raise DataError("the video is truncated")
        return super().images(index, key, indices)


def make(rate_hz: float | None = 10.0) -> MemorySource:
    def episode(steps: int, text: str) -> MemoryEpisode:
        pictures = np.full((steps, 24, 32, 3), 90, dtype=np.uint8)
        return MemoryEpisode(columns={"action": np.zeros((steps, 1))}, cameras={"top": pictures}, instruction=text)

    texts = ["push <b>", "pull", "", "lift"]
    lengths = (16, 36, 11, 3)
    return Unreadable([episode(*each) for each in zip(lengths, texts, strict=True)], rate_hz=rate_hz)


def examine(source: MemorySource) -> Findings:
    return find_faults(source, [UnreadableFrames(), MinimumFrames(), MissingLanguage()], roles=find_roles(source))


def test_thumbnails_of_frames_that_cannot_be_read_are_empty():
    first, middle, last = thumbnails(make(), 0, camera="top")
    assert first.startswith("data:image/jpeg;base64,")
    assert (middle, last) == (None, None)
    assert thumbnails(make(), 0, camera=None) == []


class Page(HTMLParser):
    """Text of a page; fails on tags that are left open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open, self.text, self.links = [], "", []
        self.feed(html)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        """A tag that ends itself leaves nothing open."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_shows_what_was_dropped_what_nearly_was_and_what_a_person_kept(tmp_path: Path):
    findings = examine(make())
    decisions = findings.decisions()
    kept = Decision(episode=3, rule="minimum_frames", value=3.0, threshold=10, keep=True)
    entries = tuple(kept if entry.rule == kept.rule else entry for entry in decisions.entries)
    edited = decisions.with_edits_of(replace(decisions, entries=entries))
    write_cleaning_report(tmp_path / "new folder" / "report.html", findings, edited)
    html = (tmp_path / "new folder" / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert all(link.startswith(("data:image/jpeg", "#")) for link in page.links), "it needs no other file"
    assert "<script" not in html
    assert "Cleaning of memory" in page.text
    assert "2episodes kept of 4" in page.text
    assert "0.001083hours kept of 0.001833" in page.text  # (36 + 3) and (16 + 36 + 11 + 3) frames at 10 Hz
    assert "1episodes kept by hand" in page.text
    assert "dropped Episode 0" in page.text
    assert "middle framecannot be read" in page.text
    assert "“push <b>”" in page.text
    assert "nearly Episode 2" in page.text  # 11 frames
    assert "kept by hand Episode 3" in page.text
    assert "dropped Episode 2" in page.text
    assert "no sentence" in page.text
    assert html.count("<svg") == 3
    assert "prefers-color-scheme:dark" in html


def test_without_a_rate_the_page_counts_frames(tmp_path: Path):
    findings = examine(make(None))
    write_cleaning_report(tmp_path / "report.html", findings, findings.decisions())
    assert "36frames kept of 66" in Page((tmp_path / "report.html").read_text(encoding="utf-8")).text
