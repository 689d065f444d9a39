"""How many times faster the action head is through torch.compile, on this machine.

Run: python benchmarks/compiled_head.py [--repeats 15] [--blocks 1] [--results docs/results/compile.json] ...

"training" is the flow-matching loss with several noise draws per sample, forward and backward; "sampling" is a chunk
for one observation in 10 Euler steps. The plain head and its compiled copy take turns; a round gives one ratio of times
and the median of the rounds counts. `compile_s` is what the first calls took longer. The largest difference of loss and
actions is checked. The last line of the output is JSON; `ratio` is the smallest over sizes and modes in training.
Needs a C++ compiler.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from head_sizes import HeadSize, sizes
from record import provenance, take_turns, times_faster, write_results
from vla_kit.flow import Euler, UniformTime
from vla_kit.heads import DiTHead, sample_actions
from vla_kit.heads.compiled import compile_head
from vla_kit.losses import FlowMatchingLoss

GOAL = 1.0


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {
        "batch": 2,
        "draws": 2,
        "tokens": 256,
        "horizon": 16,
        "steps": 10,
        "blocks": 1,
        "repeats": 15,
        "threads": 2,
    }
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--results", type=Path, help="file of docs/results to write the figures to")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    rows: list[dict[str, Any]] = []
    for label, size in sizes(settings.blocks).items():
        for mode in ("joint", "cached"):
            plain = size.build(mode)
            compiled = copy.deepcopy(plain)
            compile_head(compiled)
            for what, task in (("training", training), ("sampling", sampling)):
                sides = {"plain": task(size, plain, settings), "compiled": task(size, compiled, settings)}
                with torch.set_grad_enabled(what == "training"):
                    start = time.perf_counter()
                    found = sides["compiled"]()
                    first = time.perf_counter() - start
                    torch.testing.assert_close(found, sides["plain"](), atol=1e-4, rtol=1e-4)
                    seconds = take_turns(sides, repeats=settings.repeats)
                row = {"size": label, "attention": mode, "what": what}
                row |= times_faster(seconds, slow="plain", fast="compiled")
                rows.append(row | {"compile_s": first - row["compiled_ms"] / 1e3})
                print(rows[-1], flush=True)
    ratio = round(min(row["value"] for row in rows if row["what"] == "training"), 2)
    if settings.results:
        setting = {
            name: getattr(settings, name) for name in ("batch", "draws", "tokens", "horizon", "steps", "threads")
        }
        compiled = {"goal": GOAL, "comparisons": rows, **setting} | provenance()
        write_results(settings.results, {"compile_ratio": ratio, "compile": compiled})
    print(json.dumps({"name": "compiled_head", "ratio": ratio, "goal": GOAL}))


def training(size: HeadSize, head: DiTHead, settings: argparse.Namespace) -> Callable[[], Tensor]:
    """Loss, forward and backward; the same noise every time."""
    context = size.context(batch=settings.batch, tokens=settings.tokens)
    context.hidden.requires_grad_()
    actions = size.actions(batch=settings.batch, horizon=settings.horizon)
    loss = FlowMatchingLoss(UniformTime(), draws=settings.draws)

    def step() -> Tensor:
        head.zero_grad()
        context.hidden.grad = None
        total = loss(head, actions, context, generator=torch.Generator().manual_seed(0)).mean()
        total.backward()
        return total.detach()

    return step


def sampling(size: HeadSize, head: DiTHead, settings: argparse.Namespace) -> Callable[[], Tensor]:
    """A chunk for one observation; the same noise every time."""
    context = size.context(batch=1, tokens=settings.tokens)
    mask = size.actions(batch=1, horizon=settings.horizon).mask
    noise = torch.randn(mask.shape, generator=torch.Generator().manual_seed(0))
    return lambda: sample_actions(head, context, mask, solver=Euler(steps=settings.steps), noise=noise)


if __name__ == "__main__":
    main()
