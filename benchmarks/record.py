"""What benchmarks share: a ratio with its interval, and its way into docs/results."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from math import comb
from pathlib import Path
from typing import Any

from vla_kit.data.whole_file import write_atomically

PLACES = {"--episode", "--results", "--folder", "--lerobot-python"}  # of one machine alone


def median_interval(values: Sequence[float]) -> dict[str, float]:
    """Median with the narrowest pair of order statistics that holds it with at least 95 %, whatever the distribution.

    Fewer than 6 values cannot promise that; their whole range is given.
    """
    ordered, n = sorted(values), len(values)
    outside = 0
    while 2 * sum(comb(n, k) for k in range(outside + 2)) <= 0.05 * 2**n:
        outside += 1
    return {"value": statistics.median(ordered), "low": ordered[outside], "high": ordered[-1 - outside], "n": n}


def take_turns(sides: Mapping[str, Callable[[], object]], *, repeats: int, warmup: int = 2) -> dict[str, list[float]]:
    """Seconds of each side per round. They take turns, each goes first equally often, and the first rounds warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for turn in range(-warmup, repeats):
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            start = time.perf_counter()
            sides[name]()
            spent = time.perf_counter() - start
            if turn >= 0:
                seconds[name].append(spent)
    return seconds


def times_faster(seconds: Mapping[str, Sequence[float]], *, slow: str, fast: str) -> dict[str, Any]:
    """A row of results: how many times the seconds of one side another takes, and the median seconds of both."""
    ratios = [before / after for before, after in zip(seconds[slow], seconds[fast], strict=True)]
    of_both = {f"{name}_ms": 1e3 * statistics.median(seconds[name]) for name in (slow, fast)}
    return {**median_interval(ratios), **of_both}


def provenance() -> dict[str, str]:
    """What someone needs to measure again."""
    described = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(described, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    processors = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    shown = [word for word, before in zip(sys.argv[1:], sys.argv, strict=False) if not {word, before} & PLACES]
    return {
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *shown]),
        "commit": done.stdout.strip() or "unknown",
        "date": datetime.now(tz=UTC).date().isoformat(),
        "machine": f"{processors[0] if processors else 'unknown processor'}, {os.cpu_count()} cores",
    }


def write_results(path: Path, figures: Mapping[str, Any]) -> None:
    """Add figures to a file of results; what another benchmark wrote there stays."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_atomically(path, json.dumps(before | dict(figures), indent=2) + "\n")
