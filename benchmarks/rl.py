"""What reinforcement learning costs: rollouts against bare simulators, and the update's head pass against sampling.

`python benchmarks/rl.py` runs both sides of each ratio in turns, so that a busy machine slows both. The policy is the
demo's size with random weights, so that every episode takes all of its decisions.

- `rollout_ratio`: environment steps per second of rollouts over those of the same simulators, driven with random
  actions and asked for a picture as often as the policy looks, both in one process, as `examples/qwen_vla/rl.py` runs.
  `rollout_ratio_blind` has no picture in the simulators' part, so it is the price of pictures too, which a processor
  without a GPU pays dearly. `..._workers` are the same with a process per environment, and one more for the policy.
  The sampler is that of `configs/size/tiny_rl.yaml`.
- `update_ratio`: seconds of the pass that PPO adds per chunk, which is one step of the flow for its density, over those
  of drawing the chunk: backbone, conditioning of the head, all four steps of `configs/stage4_rl.yaml`. With a frozen
  backbone the rollout's context is used again. `update_ratio_conditioned` counts the conditioning of the head, whose
  weights change between the two, too.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch

from evaluation import tiny_policy
from record import median_interval, provenance, take_turns, write_results
from simulators import drive
from vla_kit.envs import EnvHere, EnvHost, env_workers, make_env
from vla_kit.flow import StochasticEuler
from vla_kit.heads import ValueHead
from vla_kit.policy import PolicyObservation
from vla_kit.training.actor import Actor, velocity
from vla_kit.training.rollout import PlannedEpisode, play_episodes

GOALS = {"rollout_ratio": 0.7, "update_ratio": 0.15}


def main() -> None:
    """Measure, print, and write the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="metaworld/faucet-open")
    parser.add_argument("--results", type=Path, help="file of docs/results to write the figures to")
    for name, default in (("environments", 8), ("episodes", 24), ("rounds", 6), ("batch", 16)):
        parser.add_argument(f"--{name}", type=int, default=default)
    settings = parser.parse_args()
    torch.set_num_threads(1)  # more would fight the workers for two cores, and a policy this small gains nothing
    with env_workers(settings.environments) as workers:
        apart = measure_rollouts(settings, workers)
    here = measure_rollouts(settings, [EnvHere() for _ in range(settings.environments)])
    update, conditioned = measure_update(settings)
    rows = {
        "rollout_ratio": here["looking"],
        "rollout_ratio_blind": here["blind"],
        "rollout_ratio_workers": apart["looking"],
        "rollout_ratio_workers_blind": apart["blind"],
        "update_ratio": update,
        "update_ratio_conditioned": conditioned,
    }
    for name, row in rows.items():
        print(f"{name}: {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]")
    for name, row in (("in workers", apart["looking"]), ("in one process", here["looking"])):
        print(f"environment steps/s {name}: {row['steps_per_s']:.0f}, bare {row['bare_steps_per_s']:.0f}")
    figures = {name: round(row["value"], 3) for name, row in rows.items()}
    if settings.results:
        write_results(settings.results, figures | {"speed": rows | provenance()})
    print(json.dumps({"name": "rl", "ratio": figures["rollout_ratio"], "goal": 0.7, **figures}))


def measure_rollouts(settings: argparse.Namespace, hosts: Sequence[EnvHost]) -> dict[str, dict[str, float]]:
    """Steps per second of rollouts over those of random actions with and without pictures, with the same hosts."""
    make = partial(make_env, settings.task)
    actor = tiny_actor(settings.task, StochasticEuler(steps=2, stochastic_steps="all"))
    steps: dict[str, list[int]] = {"rollout": [], "looking": [], "blind": []}
    seeds = iter(range(600_000, 10**6))

    def rollout() -> None:
        plan = [
            PlannedEpisode(number=number, task=settings.task, seed=next(seeds)) for number in range(settings.episodes)
        ]
        episodes, _ = play_episodes(
            plan, actor.decide, make_envs={settings.task: make}, hosts=hosts, see_timeouts=False
        )
        steps["rollout"].append(sum(episode.steps for episode in episodes))

    def random(side: str, look_every: int) -> None:
        steps[side].append(0)
        for host in hosts:
            host.give(make)
        for _ in range(0, settings.episodes, len(hosts)):
            for host in hosts:
                host.submit(drive, next(seeds), look_every)
            steps[side][-1] += sum(host.result() for host in hosts)

    sides = {"rollout": rollout, "looking": partial(random, "looking", 16), "blind": partial(random, "blind", 0)}
    seconds = take_turns(sides, repeats=settings.rounds, warmup=1)
    rates = {
        side: [count / spent for count, spent in zip(steps[side][1:], seconds[side], strict=True)] for side in seconds
    }
    return {
        side: {
            **median_interval([ours / bare for ours, bare in zip(rates["rollout"], rates[side], strict=True)]),
            "steps_per_s": median(rates["rollout"]),
            "bare_steps_per_s": median(rates[side]),
            "environments": len(hosts),
        }
        for side in ("looking", "blind")
    }


def measure_update(settings: argparse.Namespace) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of one step of the flow over those of drawing a chunk, without and with conditioning the head."""
    sampler = StochasticEuler(steps=4, stochastic_steps="one")
    policy = tiny_policy(settings.task)
    picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    seen = [
        PolicyObservation(
            embodiment="metaworld_sawyer",
            instruction="turn the faucet handle to the right",
            views={"cam_high": picture},
        )
    ] * settings.batch
    mask = policy.mask(["metaworld_sawyer"] * settings.batch)
    with torch.no_grad():
        context = policy.read(seen)
        field = velocity(policy.head, context, mask)
        path = sampler.sample(field, torch.randn(mask.shape), mask)

        def draw() -> None:
            sampler.sample(velocity(policy.head, policy.read(seen), mask), torch.randn(mask.shape), mask)

        def step() -> None:
            sampler.log_prob(field, path, mask)

        def conditioned_step() -> None:
            sampler.log_prob(velocity(policy.head, context, mask), path, mask)

        sides: dict[str, Callable[[], None]] = {"draw": draw, "step": step, "conditioned": conditioned_step}
        seconds = take_turns(sides, repeats=20 * settings.rounds)
    rows = []
    for side in ("step", "conditioned"):
        ratios = [one / whole for one, whole in zip(seconds[side], seconds["draw"], strict=True)]
        of_both = {"draw_ms": 1e3 * median(seconds["draw"]), "step_ms": 1e3 * median(seconds[side])}
        rows.append({**median_interval(ratios), **of_both, "batch": settings.batch, "steps": sampler.steps})
    return rows[0], rows[1]


def tiny_actor(task: str, sampler: StochasticEuler) -> Actor:
    """The demo's size with random weights, as it explores."""
    return Actor(
        tiny_policy(task),
        sampler=sampler,
        value_head=ValueHead(context_width=128),
        noise_head=None,
        temperature=1.0,
        keep_contexts=True,
        generator=torch.Generator().manual_seed(0),
        on_broken=lambda content: None,
    )


if __name__ == "__main__":
    main()
