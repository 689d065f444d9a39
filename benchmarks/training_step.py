"""The share of a training step of the action head that its matrix products alone would take, on this machine.

Run: python benchmarks/training_step.py [--repeats 7] [--blocks 2] [--results docs/results/training.json] ...

The step is that of training: flow-matching loss with several noise draws per sample, forward and backward, gradients of
all weights and of the context. Samples differ in length, actions are padded in steps and channels.

What is counted: while one step runs, every matrix product that PyTorch is asked for is written down with shapes and
strides, those for outputs, for gradients of inputs and of weights alike (`mm`, `addmm`, `bmm`, `baddbmm`). A fused
attention counts as its two products forward and as four backward. The bare side runs exactly these as `torch.matmul` on
random tensors of the same shapes, strides and dtype, and does nothing else. Products that the head could have spared
count too: the ratio says what everything else costs, not that the products are needed.

Both sides take turns; a round gives one ratio and the median of the rounds counts. The last line of the output is JSON;
`ratio` is the smallest at the paper's width over both modes, float32 and bfloat16. A small size is measured too.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from head_sizes import HeadSize, sizes
from record import provenance, take_turns, times_faster, write_results
from vla_kit.flow import BetaTime
from vla_kit.heads import DiTHead
from vla_kit.losses import FlowMatchingLoss

GOAL = 0.7


class Operand(NamedTuple):
    """Shape and strides of a tensor."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> "Operand":
        return cls(tuple(tensor.shape), tuple(tensor.stride()))

    def like(self, dtype: torch.dtype) -> Tensor:
        return torch.empty_strided(self.shape, self.stride, dtype=dtype).normal_(std=0.1)


class Products(TorchDispatchMode):
    """Counts the matrix products of what runs inside."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[tuple[Operand, Operand]] = Counter()
        self.others: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401 (a hook of torch)
        name = func.overloadpacket.__name__
        if name in ("mm", "bmm"):
            self._add(args[0], args[1])
        elif name in ("addmm", "baddbmm"):
            self._add(args[1], args[2])
        elif name.startswith("_scaled_dot_product"):
            backward = name.endswith("_backward")
            query, key, value = args[1:4] if backward else args[:3]
            scores = torch.empty(*query.shape[:-1], key.shape[-2], device="meta")
            self._add(query, key.mT)
            self._add(scores, value)
            if backward:  # of the values, of the weights, of the queries (as forward), of the keys
                self._add(scores.mT, query)
                self._add(scores.mT, query)
        elif "mm" in name or "linear" in name or "convolution" in name:
            self.others[name] += 1
        return func(*args, **(kwargs or {}))

    def _add(self, left: Tensor, right: Tensor) -> None:
        self.found[Operand.of(left), Operand.of(right)] += 1


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"batch": 2, "draws": 2, "tokens": 256, "horizon": 16, "blocks": 2, "repeats": 7, "threads": 2}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--results", type=Path, help="file of docs/results to write the figures to")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    rows: list[dict[str, Any]] = []
    for label, size in sizes(settings.blocks).items():
        for mode in ("joint", "cached"):
            for dtype in (torch.float32, torch.bfloat16):
                step = training_step(size, size.build(mode, dtype=dtype), dtype, settings)
                bare = bare_products(step, dtype)
                seconds = take_turns({"products": bare, "step": step}, repeats=settings.repeats, warmup=1)
                row = {"size": label, "attention": mode, "dtype": str(dtype).removeprefix("torch.")}
                rows.append(row | times_faster(seconds, slow="products", fast="step"))
                print(rows[-1], flush=True)
    ratio = round(min(row["value"] for row in rows if row["size"] != "small"), 3)
    if settings.results:
        setting = {name: getattr(settings, name) for name in ("batch", "draws", "tokens", "horizon", "threads")}
        matmul = {"goal": GOAL, "comparisons": rows, **setting} | provenance()
        write_results(settings.results, {"matmul_ratio": ratio, "matmul": matmul})
    print(json.dumps({"name": "training_step", "ratio": ratio, "goal": GOAL}))


def training_step(
    size: HeadSize, head: DiTHead, dtype: torch.dtype, settings: argparse.Namespace
) -> Callable[[], None]:
    """Loss, forward and backward."""
    context = size.context(batch=settings.batch, tokens=settings.tokens, dtype=dtype)
    context.hidden.requires_grad_()
    actions = size.actions(batch=settings.batch, horizon=settings.horizon)
    loss = FlowMatchingLoss(BetaTime(), draws=settings.draws)

    def step() -> None:
        head.zero_grad()
        context.hidden.grad = None
        loss(head, actions, context).mean().backward()

    return step


def bare_products(step: Callable[[], None], dtype: torch.dtype) -> Callable[[], None]:
    """The matrix products of a step and nothing else."""
    with Products() as products:
        step()
    if products.others:
        raise SystemExit(f"every matrix product must be counted, got {dict(products.others)} besides.")
    pairs = [
        (partial(torch.matmul, left.like(dtype), right.like(dtype)), count)
        for (left, right), count in products.found.items()
    ]

    @torch.no_grad()
    def run() -> None:
        for multiply, count in pairs:
            for _ in range(count):
                multiply()

    return run


if __name__ == "__main__":
    main()
