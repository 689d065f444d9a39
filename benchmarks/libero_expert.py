"""How often the scripted expert solves LIBERO's suites `object` and `spatial`, from the official initial states.

Run: python benchmarks/libero_expert.py --episodes 20 --results docs/results/libero.json

Episode i begins at the benchmark's initial state i and ends at the suite's step limit. Results are kept after each
task: run the command again to go on where it stopped; tasks that were measured over at least as many episodes are left
alone. `--suites`, `--first` and `--last` measure a part.
"""

import argparse
import json
import time
from functools import partial
from pathlib import Path

from record import provenance, write_results
from vla_kit.envs import find_task, make_env
from vla_kit.envs.libero_tasks import LIBERO_STEP_LIMITS, libero_tasks
from vla_kit.evaluation.rollout import evaluate_expert
from vla_kit.evaluation.seeds import evaluation_seeds
from vla_kit.evaluation.table import SuccessCount


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", nargs="+", default=["object", "spatial"], choices=list(LIBERO_STEP_LIMITS))
    parser.add_argument("--episodes", type=int, default=20, help="initial states per task, at most 50")
    parser.add_argument("--first", type=int, default=0, help="first task")
    parser.add_argument("--last", type=int, default=9, help="last task")
    parser.add_argument("--results", type=Path, help="JSON file to write to; print alone where it is left out")
    settings = parser.parse_args()
    for suite in settings.suites:
        rows = _before(settings.results, suite)
        for task in libero_tasks(suite)[settings.first : settings.last + 1]:
            if rows.get(task.name, {}).get("episodes", 0) >= settings.episodes:
                continue
            rows[task.name] = measure(task.name, episodes=settings.episodes)
            print(json.dumps(rows[task.name]), flush=True)
            if settings.results is not None:
                write_results(settings.results, {suite: summary(list(rows.values())) | {"provenance": provenance()}})


def measure(name: str, *, episodes: int) -> dict[str, str | int | float]:
    """One task: successes with an interval, decisions of a success, and seconds per episode."""
    start = time.monotonic()
    results = evaluate_expert(partial(make_env, name), evaluation_seeds(episodes))
    seconds = time.monotonic() - start
    count = SuccessCount.of(results)
    solved = [result.steps for result in results if result.success]
    return {
        "name": name,
        "sentence": find_task(name).sentences[0],
        "successes": count.successes,
        "episodes": count.episodes,
        "success": count.rate,
        "low": count.interval[0],
        "high": count.interval[1],
        "steps": sum(solved) / len(solved) if solved else None,
        "seconds_per_episode": seconds / episodes,
    }


def summary(rows: list[dict]) -> dict[str, object]:
    """The tasks of a suite, and all of them together."""
    rows = sorted(rows, key=lambda row: row["name"])
    count = SuccessCount(sum(row["successes"] for row in rows), sum(row["episodes"] for row in rows))
    low, high = count.interval
    together = {"successes": count.successes, "episodes": count.episodes, "success": count.rate}
    return {"tasks": rows, "all": together | {"low": low, "high": high}}


def _before(path: Path | None, suite: str) -> dict[str, dict]:
    if path is None or not path.exists():
        return {}
    tasks = json.loads(path.read_text(encoding="utf-8")).get(suite, {}).get("tasks", [])
    return {row["name"]: row for row in tasks}


if __name__ == "__main__":
    main()
