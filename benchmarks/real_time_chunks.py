"""How often a robot that does not wait for its policy changes its mind, by what the policy is told.

Run: python benchmarks/real_time_chunks.py [--chunks 100] [--results docs/results/real_time_chunks.json]

The policy is an exact velocity field, not a network: it goes left or right with equal chance, all steps of a chunk
alike. Whoever asks it anew for every chunk changes sides at every other one. Takes seconds, and repeats bit for bit.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from record import provenance, write_results
from vla_kit.flow import CleanPrefix, Euler, GuidedPrefix, HardPrefix
from vla_kit.policy import Inpainting, RealTimeExecutor
from vla_kit.policy.real_time import known_actions

SPREAD = 0.05
HORIZON, REPLAN_EVERY, DELAY, SOLVER_STEPS = 8, 4, 2, 10
METHODS = {
    "the prefix is ignored": None,
    "HardPrefix()": HardPrefix(),
    "GuidedPrefix()": GuidedPrefix(),
    "CleanPrefix()": CleanPrefix(),
}


def main() -> None:
    """Count, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=100)
    parser.add_argument("--results", type=Path, help="file to write to")
    settings = parser.parse_args()
    chunks = settings.chunks
    rows = [{"prefix": name, "changes": changes_of_side(method, chunks=chunks)} for name, method in METHODS.items()]
    result = {
        "provenance": provenance(),
        "chunks": chunks,
        "horizon": HORIZON,
        "replan_every": REPLAN_EVERY,
        "delay": DELAY,
        "solver_steps": SOLVER_STEPS,
        "methods": rows,
    }
    print(json.dumps(result))
    if settings.results is not None:
        write_results(settings.results, result)


def left_or_right(noisy: Tensor, time: Tensor) -> Tensor:
    """Expected `noise - action` for chunks around -1 or +1, at one time per chunk or per step.

    Given the side, each step is Gaussian around `(1 - time) side`; Bayes weighs the two sides.
    """
    times = (time if time.ndim == 2 else time[:, None].expand(noisy.shape[:2]))[..., None]
    variance = (1 - times) ** 2 * SPREAD**2 + times**2
    sides = (-1.0, 1.0)
    likelihood = [-((noisy - (1 - times) * side) ** 2 / (2 * variance)).sum((1, 2)) for side in sides]
    velocity = torch.zeros_like(noisy)
    for share, side in zip(torch.stack(likelihood).softmax(0), sides, strict=True):
        inside = (noisy - (1 - times) * side) / variance
        velocity += share[:, None, None] * (times * inside - side - (1 - times) * SPREAD**2 * inside)
    return velocity


def changes_of_side(method: Inpainting | None, *, chunks: int) -> int:
    """Steps of a run at which the action jumps by more than 1, half the way from side to side."""
    executor, actions = RealTimeExecutor(replan_every=REPLAN_EVERY, delay=DELAY), []
    for chunk in range(chunks):
        noise = torch.randn(1, HORIZON, 1, generator=torch.Generator().manual_seed(chunk), dtype=torch.double)
        solver = Euler(steps=SOLVER_STEPS)
        if method is not None and executor.prefix is not None:
            known, delay = known_actions([executor.prefix], torch.ones(1, HORIZON, 1, dtype=torch.bool))
            solver = method(solver, known=known.values.double(), mask=known.mask, delay=delay)
        executor.give(solver(left_or_right, noise)[0].numpy())
        while not executor.needs_chunk:
            actions.append(executor.next().item())
    return int((np.abs(np.diff(actions)) > 1).sum())


if __name__ == "__main__":
    main()
