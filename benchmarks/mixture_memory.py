"""Resident memory of a process that draws samples from a mixture of 500 data sets, relative to one of 5.

Run: python benchmarks/mixture_memory.py [--few 5] [--many 500] [--repeats 6] ...

Every set is a LeRobot v3.0 folder of its own with 50 episodes, two videos and a state (hard links to one set on disk,
so their contents are equal; no part of the program knows). Each process opens every set once as training does before
the first step, then draws the same number of samples with pictures, from every set at least one, and reports its
resident memory. Processes with few and many sets take turns; one pair gives one ratio. The last line of the output is
JSON: the median ratio and what this repository wants to stay below. What torch and the rest of the program take is part
of both; the memory per set is printed beside it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from record import median_interval, provenance, write_results
from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.data.lazy_parts import Part
from vla_kit.data.lerobot_writer import LeRobotWriter
from vla_kit.data.mixture import Mixture
from vla_kit.data.windows import ChunkDataset

GOAL = 1.5
VIEWS = {"front": "observation.images.front", "wrist": "observation.images.wrist"}


def main() -> None:
    """Write the sets, let processes take turns and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = (("few", 5), ("many", 500), ("repeats", 6), ("samples", 600), ("episodes", 50), ("open-sets", 32))
    for name, default in defaults:
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--results", type=Path, help="file of docs/results to write the figures to")
    parser.add_argument("--draw-from", help=argparse.SUPPRESS)  # what a child process is told
    settings = parser.parse_args()
    if settings.draw_from is not None:
        print(draw(sorted(Path(settings.draw_from).iterdir())[: settings.many], settings))
        return
    used: dict[int, list[int]] = {settings.few: [], settings.many: []}
    with tempfile.TemporaryDirectory() as folder:
        write_sets(Path(folder), settings)
        for _ in track(range(settings.repeats), description="measure"):
            for count, values in used.items():
                child = [sys.executable, __file__, "--draw-from", folder, "--many", str(count)]
                child += ["--samples", str(settings.samples), "--open-sets", str(settings.open_sets)]
                done = subprocess.run(child, stdout=subprocess.PIPE, text=True, check=True)
                values.append(int(done.stdout.split()[-1]))
    few, many = (statistics.median(used[count]) for count in (settings.few, settings.many))
    ratio = median_interval([b / a for a, b in zip(used[settings.few], used[settings.many], strict=True)])
    for count, size in ((settings.few, few), (settings.many, many)):
        print(f"{count} sets: {size / 1e6:.0f} MB")
    print(f"{(many - few) / (settings.many - settings.few) / 1e3:.1f} kB for each further set")
    if settings.results:
        memory = ratio | {"goal": GOAL, "few_mb": few / 1e6, "many_mb": many / 1e6} | provenance()
        write_results(settings.results, {"memory_ratio": round(ratio["value"], 3), "memory": memory})
    print(
        json.dumps(
            {
                "name": "mixture_memory",
                "ratio": round(ratio["value"], 3),
                "goal": GOAL,
                "memory_ratio": round(ratio["value"], 3),
            }
        )
    )


def write_sets(folder: Path, settings: argparse.Namespace) -> None:
    """One set, and folders that look like others."""
    picture = {"dtype": "video", "shape": (32, 32, 3)}
    features = {
        "action": {"dtype": "float32", "shape": (7,)},
        "observation.state": {"dtype": "float32", "shape": (8,)},
        **dict.fromkeys(VIEWS.values(), picture),
    }
    rng = np.random.default_rng(0)
    first = folder / "set-000"
    with LeRobotWriter(first, rate_hz=20, features=features, robot_type="toy") as writer:
        for episode in track(range(settings.episodes), description="write"):
            length = int(rng.integers(40, 61))
            pictures = rng.integers(0, 256, size=(length, 32, 32, 3), dtype=np.uint8)
            writer.add_episode(
                rng.normal(size=(length, 7)).astype(np.float32),
                dict.fromkeys(VIEWS.values(), pictures),
                instruction=f"task {episode % 10}",
                columns={"observation.state": rng.normal(size=(length, 8)).astype(np.float32)},
            )
    files = [path for path in first.rglob("*") if path.is_file()]
    for number in range(1, settings.many):
        for path in files:
            link = folder / f"set-{number:03d}" / path.relative_to(first)
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, link)


def draw(roots: list[Path], settings: argparse.Namespace) -> int:
    """Resident memory [byte] after samples of every set."""
    torch.set_num_threads(1)
    parts = []
    for root in roots:
        chosen = DemonstrationSet(root=str(root), embodiment="toy", views=VIEWS)
        reader = chosen.open()
        parts.append(
            Part(
                name=reader.name,
                dataset=reader.name,
                location=reader.location,
                fingerprint=reader.fingerprint,
                embodiment=reader.embodiment,
                length=int(reader.num_steps.sum()),
                open=chosen.open,
                windows=partial(ChunkDataset, horizon=16, episodes=chosen.episodes(reader)),
            )
        )
    mixture = Mixture(parts, seed=0, open_sets=settings.open_sets)
    seen = set()
    for start in range(0, settings.samples, 50):
        seen |= {sample.dataset for sample in mixture.samples(range(start, start + 50))}
    if len(seen) < len(roots):
        raise SystemExit(f"--samples must reach every set, got {len(seen)} of {len(roots)}. Draw more.")
    resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
    return resident_pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
