"""Navigation: our measures on a real log of R2R-CE, and the closed loop of the demo.

Run: python benchmarks/navigation.py --log ../shared/data/vlnce_eval_logs --results docs/results/navigation.json

The log holds no shortest ways: those of its successes are taken from their own SPL. `--summary` copies the scores of
policy, expert and random actions from the `summary.json` of `configs/demo/navigation.yaml` beside them.
"""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from record import provenance, write_results
from vla_kit.metrics import NavigationEpisode
from vla_kit.metrics.navigation_scores import NavigationScores

NAME = "cont-cwp-vlnbert-ori"
TIME_LIMIT = 20  # decisions of the logged evaluation; whoever needed them all had not stopped
SCORES = ("success", "spl", "oracle_success", "navigation_error_m", "ndtw")


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", type=Path, help="folder of the log")
    parser.add_argument("--summary", type=Path, help="summary.json of the demo")
    parser.add_argument("--results", type=Path, help="JSON file to write to; print alone where it is left out")
    settings = parser.parse_args()
    figures: dict[str, Any] = {}
    if settings.log is not None:
        figures |= errors_on_log(settings.log) | {"provenance": provenance()}
    if settings.summary is not None:
        figures |= closed_loop(json.loads(settings.summary.read_text(encoding="utf-8")))
    print(json.dumps(figures, indent=2))
    if settings.results is not None:
        write_results(settings.results, figures)


def errors_on_log(folder: Path) -> dict[str, float]:
    """Differences from the published averages."""
    rows = json.loads((folder / f"{NAME}_ep.json").read_text(encoding="utf-8")).values()
    published = json.loads((folder / f"{NAME}_agg.json").read_text(encoding="utf-8"))
    scores = NavigationScores()
    scores.update([episode(row) for row in rows])
    found = {name: float(value) for name, value in scores.compute().items()}
    return {
        "sr_error": abs(found["success"] - published["success"]),
        "spl_error": abs(found["spl"] - published["spl"]),
        "log_episodes": int(found["episodes"]),
    }


def episode(row: dict[str, float]) -> NavigationEpisode:
    """One line of the log."""
    return NavigationEpisode(
        distance_m=row["distance_to_goal"],
        nearest_m=min(row["distance_to_goal"], 0.0 if row["oracle_success"] else math.inf),
        length_m=row["path_length"],
        shortest_m=row["spl"] * row["path_length"] if row["success"] else row["path_length"],
        stopped=row["steps_taken"] < TIME_LIMIT,
        ndtw=row["ndtw"],
    )


def closed_loop(summary: dict[str, Any]) -> dict[str, Any]:
    """Means over the tasks, and a row per task and actor."""
    tasks = summary["tasks"]
    rows = [
        {"task": task["name"], "who": who, "episodes": int(one["episodes"]), **{name: one[name] for name in SCORES}}
        for task in tasks
        for who, one in task["navigation"].items()
    ]
    return {
        "success": mean(rows, "policy", "success"),
        "spl": mean(rows, "policy", "spl"),
        "expert": mean(rows, "expert", "success"),
        "expert_spl": mean(rows, "expert", "spl"),
        "random": mean(rows, "random", "success"),
        "random_oracle_success": mean(rows, "random", "oracle_success"),
        "rows": rows,
        "minutes": summary["minutes"],
        "demo": {name: summary[name] for name in ("command", "commit", "date", "machine")},
    }


def mean(rows: Sequence[dict[str, Any]], who: str, score: str) -> float:
    """Mean of a score over the tasks."""
    values = [row[score] for row in rows if row["who"] == who]
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
