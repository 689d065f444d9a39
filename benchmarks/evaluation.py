"""How much faster an evaluation is with environments in worker processes, and with pictures only where they are seen.

`python benchmarks/evaluation.py` runs both sides of each ratio in turns, each round on the same seeds, so that a busy
machine slows both. The policy is untrained, so that every episode takes all of its decisions.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from record import median_interval, provenance, write_results
from vla_kit.actions import QuantileNormalizer, QuantileStats
from vla_kit.backbones.tiny import tiny_qwen3_vl
from vla_kit.embodiment import EmbodimentPrompter, preset
from vla_kit.envs import TASKS, EnvHost, env_workers, make_env
from vla_kit.evaluation import evaluate, evaluation_seeds
from vla_kit.flow import Euler
from vla_kit.heads import AnchoredHead, DiTHead
from vla_kit.policy import Policy

GOALS = {"vector_ratio": 1.6, "lazy_ratio": 3.0}


def main() -> None:
    """Measure, print, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="metaworld/faucet-open")
    parser.add_argument("--results", type=Path, help="file of docs/results to write the figures to")
    for name, default in (("workers", 16), ("episodes", 32), ("replan", 8), ("rounds", 6), ("decisions", 48)):
        parser.add_argument(f"--{name}", type=int, default=default)
    settings = parser.parse_args()
    torch.set_num_threads(1)  # more would fight the workers for two cores, and a policy this small gains nothing
    vector = measure_vector(settings)
    lazy = measure_lazy(settings)
    rows = [vector, lazy]
    for row in rows:
        print(
            f"{row['ratio']}: {row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}], "
            f"{row['to']} {row['to_rate']:.2f} against {row['of']} {row['of_rate']:.2f} {row['unit']}"
        )
    figures = {row["ratio"]: round(row["value"], 3) for row in rows}
    if settings.results:
        write_results(settings.results, figures | {"comparisons": rows} | provenance())
    print(json.dumps({"name": "evaluation", "ratio": figures["vector_ratio"], "goal": 1.6, **figures}))


def measure_vector(settings: argparse.Namespace) -> dict[str, object]:
    """Episodes per second: 16 environments in worker processes against one in this process, with the same policy."""
    policy = tiny_policy(settings.task)
    make = partial(make_env, settings.task)

    def episodes(workers: Sequence[EnvHost], round_: int) -> None:
        seeds = evaluation_seeds(settings.episodes, offset=round_ * settings.episodes)
        results = evaluate(policy, make, seeds, replan_every=settings.replan, workers=workers)
        if any(result.error for result in results):
            raise SystemExit("an episode ended in an error; the times mean nothing")

    with env_workers(settings.workers) as workers:
        sides = {"one at a time": partial(episodes, ()), f"{settings.workers} at a time": partial(episodes, workers)}
        return compare("vector_ratio", sides, settings, amount=settings.episodes, unit="episodes/s")


def measure_lazy(settings: argparse.Namespace) -> dict[str, object]:
    """Steps per second of one environment: a picture where the policy looks against a picture at every step."""
    env = make_env(settings.task)

    def steps(every: int, round_: int) -> None:
        rng = np.random.default_rng(round_)
        for seed in range(4):
            env.reset(seed)
            for step in range(settings.decisions):
                if step % every == 0:
                    env.look()
                if env.step(rng.uniform(-1.0, 1.0, 4)).done and step < settings.decisions - 1:
                    raise SystemExit("an episode ended early; choose a task that random actions do not solve")

    try:
        sides = {"every step": partial(steps, 1), f"every {settings.replan} steps": partial(steps, settings.replan)}
        return compare("lazy_ratio", sides, settings, amount=4 * settings.decisions, unit="steps/s")
    finally:
        env.close()


def compare(
    ratio: str, sides: dict[str, Callable[[int], None]], settings: argparse.Namespace, *, amount: int, unit: str
) -> dict[str, object]:
    """Let two sides take turns; the ratio is that of their times, round by round."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in track(range(settings.rounds + 1), description=ratio):
        for name in list(sides)[:: 1 if round_ % 2 else -1]:
            start = time.perf_counter()
            sides[name](round_)
            if round_:  # the first round starts processes and renderers
                seconds[name].append(time.perf_counter() - start)
    of, to = sides
    return {
        "ratio": ratio,
        **median_interval([slow / fast for slow, fast in zip(seconds[of], seconds[to], strict=True)]),
        "goal": GOALS[ratio],
        "unit": unit,
        "of": of,
        "of_rate": amount / float(np.median(seconds[of])),
        "to": to,
        "to_rate": amount / float(np.median(seconds[to])),
    }


def tiny_policy(task: str) -> Policy:
    """The size of the demo's policy, with random weights."""
    embodiment = preset(TASKS[task].embodiment)
    channels = embodiment.action_space.size
    stats = QuantileStats(q01=-torch.ones(channels), q99=torch.ones(channels))
    return Policy(
        tiny_qwen3_vl(
            corpus=list(TASKS[task].sentences), view_tags=["cam_high"], image_size=96, patch_size=16, hidden=128
        ),
        head=AnchoredHead(
            DiTHead(
                context_width=128, channels=64, width=128, depth=2, num_heads=4, mlp_hidden=384, attention="cached"
            ),
            context_width=128,
            horizon=16,
        ),
        prompter=EmbodimentPrompter([embodiment]),
        normalizer=QuantileNormalizer({embodiment.name: stats}, spaces={embodiment.name: embodiment.action_space}),
        solver=Euler(steps=4),
        channels=64,
    )


if __name__ == "__main__":
    main()
