"""How many times faster a chunk is sampled with attention "cached" than with "joint", on this machine.

Run: python benchmarks/cached_sampling.py [--repeats 15] [--blocks 16] [--results docs/results/sampling.json] ...

Both heads have the same size and weights; only the attention differs. One chunk of 16 steps is sampled for one
observation of 512 tokens in 10 Euler steps, as a robot does it, from context to actions: "cached" pays for its pass
over the context each time. The two take turns; a round gives one ratio of times and the median of the rounds counts.
Two sizes are measured, a small one and the paper's, whose rounds take minutes and are fewer; in float32 and bfloat16.
Fewer blocks than the paper's 16 say less for "cached": in "joint" the last block spares the context most of its work.
The last line of the output is JSON; `ratio` is that of the paper's size in float32.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch

from head_sizes import sizes
from record import provenance, take_turns, times_faster, write_results
from vla_kit.flow import Euler
from vla_kit.heads import sample_actions

GOAL = 5.0
MODES = ("joint", "cached")


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("tokens", 512),
        ("horizon", 16),
        ("steps", 10),
        ("blocks", 16),
        ("repeats", 15),
        ("repeats-paper", 6),
        ("threads", 2),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--results", type=Path, help="file of docs/results to write the figures to")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    rows: list[dict[str, Any]] = []
    measured = sizes(settings.blocks)
    small, _ = measured
    for label, size in measured.items():
        for dtype in (torch.float32, torch.bfloat16):
            context = size.context(batch=1, tokens=settings.tokens, dtype=dtype)
            mask = size.actions(batch=1, horizon=settings.horizon).mask
            heads = {mode: size.build(mode, dtype=dtype) for mode in MODES}
            sample = partial(sample_actions, context=context, mask=mask, solver=Euler(steps=settings.steps))
            with torch.inference_mode():
                seconds = take_turns(
                    {mode: partial(sample, head) for mode, head in heads.items()},
                    repeats=settings.repeats if label == small else settings.repeats_paper,
                    warmup=1,
                )
            row = {"size": label, "dtype": str(dtype).removeprefix("torch.")}
            rows.append(row | times_faster(seconds, slow="joint", fast="cached"))
            print(rows[-1], flush=True)
    ratio = round(next(row["value"] for row in rows if row["dtype"] == "float32" and row["size"] != small), 2)
    if settings.results:
        setting = {name: getattr(settings, name) for name in ("tokens", "horizon", "steps", "threads")}
        write_results(
            settings.results, {"cached_ratio": ratio, "goal": GOAL, "comparisons": rows, **setting} | provenance()
        )
    print(json.dumps({"name": "cached_sampling", "ratio": ratio, "goal": GOAL}))


if __name__ == "__main__":
    main()
