"""Trajectories per second and core of the language-action corpus, and what the paper's 7.2 million would cost.

Run: python benchmarks/synthesis.py [--robots panda ur5] [--numbers 10] [--results docs/results/synthesis.json]

Every arm does every template `--numbers` times. Planning is timed by processor time, which a busy machine changes
little; the wall clock stands beside it. Writing is one more run of the first arm through `vla-kit data synthesize`
with its parts as episodes, whose share per trajectory is added as `write_ms`. The last line of the output is JSON.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from record import provenance, write_results
from vla_kit.data.lerobot_writer import LeRobotWriter
from vla_kit.data.synthesis import TEMPLATES, arm_names, find_arm
from vla_kit.data.synthesis.arm_model import ArmModel
from vla_kit.data.synthesis.planner import plan
from vla_kit.data.synthesis.synthesize import _features, _write

PAPER = 7_200_000
RATE_HZ = 50.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--robots", nargs="+", default=list(arm_names()))
    parser.add_argument("--numbers", type=int, default=10)
    parser.add_argument("--results", type=Path, default=None)
    settings = parser.parse_args()
    planned_ms, steps, attempts, tried = [], [], [], []
    wall = time.perf_counter()
    print(f"{'robot':8} {'template':26} {'ms':>6} {'seconds':>8} {'kept':>6}")
    for name in settings.robots:
        model = ArmModel(find_arm(name))
        for template in TEMPLATES:
            start = time.process_time()
            planned = [plan(model, template, number=number) for number in range(settings.numbers)]
            spent = 1e3 * (time.process_time() - start) / settings.numbers
            lengths = [len(trajectory.position) for trajectory in planned]
            tries = sum(trajectory.attempts for trajectory in planned)
            planned_ms.append(spent)
            steps.append(float(np.mean(lengths)))
            attempts.append(tries)
            tried += planned if name == settings.robots[0] else []
            kept = settings.numbers / tries
            print(f"{name:8} {template:26} {spent:6.1f} {np.mean(lengths) / RATE_HZ:8.2f} {kept:6.0%}", flush=True)
    wall = time.perf_counter() - wall
    with tempfile.TemporaryDirectory() as folder:
        arm, root = find_arm(settings.robots[0]), Path(folder) / "set"
        start = time.process_time()
        with LeRobotWriter(root, rate_hz=RATE_HZ, features=_features(arm), robot_type=arm.name) as writer:
            for trajectory in tried:
                _write(writer, trajectory, "episodes")
        write_ms = 1e3 * (time.process_time() - start) / len(tried)
        kilobytes = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) / len(tried) / 1e3
    plan_ms, seconds = float(np.mean(planned_ms)), float(np.mean(steps)) / RATE_HZ
    total = len(planned_ms) * settings.numbers
    figures = {
        "name": "synthesis",
        "robots": settings.robots,
        "trajectories": total,
        "plan_ms": round(plan_ms, 2),
        "write_ms": round(write_ms, 2),
        "per_second_per_core": round(1e3 / plan_ms, 1),
        "per_second_per_core_written": round(1e3 / (plan_ms + write_ms), 1),
        "wall_per_second": round(total / wall, 1),
        "kept_share": round(total / sum(attempts), 3),
        "mean_seconds": round(seconds, 2),
        "kilobytes": round(kilobytes, 1),
        "paper_core_hours": round(PAPER * (plan_ms + write_ms) / 3.6e6, 1),
        "paper_hours_of_motion": round(PAPER * seconds / 3600),
        "paper_gigabytes": round(PAPER * kilobytes / 1e6),
    }
    print(
        f"{figures['per_second_per_core']} trajectories per second and core; 7.2 million take "
        f"{figures['paper_core_hours']} core hours and {figures['paper_gigabytes']} GB, and are "
        f"{figures['paper_hours_of_motion']} hours of motion."
    )
    if settings.results is not None:
        write_results(settings.results, {"synthesis": figures | provenance()})
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
