"""Time of one action chunk with attention "cached", relative to "joint", on this machine.

Run: python benchmarks/cached_sampling.py [--steps 4] [--width 192] ...

Both heads have the same size and weights; only the attention differs. A chunk is sampled for one observation, as a
robot does it. The two take turns, and the median of their times counts, so a busy machine hurts both alike. The last
line of the output is JSON: the ratio cached / joint and the ratio that this repository wants to stay below.
"""

import argparse
import json
import statistics
import time

import torch

from vla_kit.flow import Euler
from vla_kit.heads import DiTHead, sample_actions
from vla_kit.protocols import Context

GOAL = 0.6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("tokens", 200),
        ("horizon", 16),
        ("steps", 4),
        ("width", 192),
        ("depth", 4),
        ("repeats", 15),
        ("threads", 1),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    context = Context(
        hidden=torch.randn(1, settings.tokens, 256),
        mask=torch.ones(1, settings.tokens, dtype=torch.bool),
        position_ids=torch.arange(settings.tokens).expand(3, 1, settings.tokens),
    )
    mask = torch.ones(1, settings.horizon, 32, dtype=torch.bool)
    solver = Euler(steps=settings.steps)
    seconds: dict[str, list[float]] = {"joint": [], "cached": []}
    heads = {
        attention: DiTHead(
            context_width=256,
            channels=32,
            width=settings.width,
            depth=settings.depth,
            num_heads=settings.width // 32,
            mlp_hidden=4 * settings.width,
            attention=attention,
        )
        for attention in seconds
    }
    with torch.inference_mode():
        for repeat in range(settings.repeats + 2):
            for attention, head in heads.items():
                start = time.perf_counter()
                sample_actions(head, context, mask, solver=solver)
                if repeat >= 2:  # the first two warm up
                    seconds[attention].append(time.perf_counter() - start)
    median = {attention: statistics.median(values) for attention, values in seconds.items()}
    for attention, value in median.items():
        print(f"{attention}: {1e3 * value:.1f} ms per chunk ({settings.tokens} tokens, {settings.steps} Euler steps)")
    print(json.dumps({"name": "cached_sampling", "ratio": round(median["cached"] / median["joint"], 3), "goal": GOAL}))


if __name__ == "__main__":
    main()
