"""How the public parts of `vla_kit.evaluation` are built."""

import sys
from pathlib import Path

from contract_cases.probe import Case

from vla_kit.embodiment import History
from vla_kit.envs import make_expert
from vla_kit.evaluation import EpisodeLog, EvaluationTask, ShiftedScenes, read_curve
from vla_kit.evaluation.closed_loop import ClosedLoop
from vla_kit.evaluation.command import evaluate_into, fingerprint_policy
from vla_kit.evaluation.policy_start import PolicyStart
from vla_kit.evaluation.report import write_report
from vla_kit.evaluation.table import EvaluationTable, SuccessCount, TaskRow

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "evaluation"))

from corridor import Corridor, Walker


def _sentence(seed: int) -> str:
    return f"walk {seed}"


def _table() -> EvaluationTable:
    row = TaskRow(name="toy/corridor", embodiment="walker", policy=SuccessCount(1, 2))
    return EvaluationTable(tasks=[row], seconds={"evaluation": 1.0})


def _checkpoint(folder: Path) -> Path:
    path = folder / "last.ckpt"
    path.write_bytes(b"weights")
    return path


def _run(folder: Path) -> Path:
    path = folder / "run"
    path.mkdir()
    (path / "metrics.csv").write_text("step,train/loss\n1,0.5\n")
    return path


CASES = [
    Case(
        EvaluationTask,
        lambda folder: {
            "name": "toy/corridor",
            "make_env": Corridor,
            "make_expert": make_expert,
            "swapped": _sentence,
            "shifts": {"words": ShiftedScenes(make_env=Corridor, instruction=_sentence)},
        },
        meant={"shifts": ("empty",)},  # no change is tried
    ),
    Case(ShiftedScenes, lambda folder: {"make_env": Corridor, "instruction": _sentence}),
    Case(
        ClosedLoop,
        lambda folder: {
            "tasks": ["metaworld/reach"],
            "every_n_steps": 500,
            "episodes": 10,
            "replan_every": 8,
            "history": History(frames=2, rate_hz=2),
            "workers": 2,
            "timeout_s": 60.0,
            "image_size": 96,
            "temperature": 1.0,
        },
        meant={"workers": ("0",)},  # in this process
    ),
    Case(
        PolicyStart,
        lambda folder: {"policy": Walker(), "chunks": (1, 2), "replan_every": 16},
    ),
    Case(fingerprint_policy, lambda folder: {"path": _checkpoint(folder)}, named={"path": "checkpoint"}),
    Case(
        evaluate_into,
        lambda folder: {
            "output": folder / "output",
            "policy": Walker(),
            "identity": {"checkpoint": "abc"},
            "notes": ["a note"],
            "tasks": [],
            "envs": [Corridor],
            "shifts": [],
            "episodes": 1,
            "baseline_episodes": 1,
            "replan_every": 8,
            "history": None,
            "workers": 0,
            "timeout_s": 60.0,
            "image_size": 96,
            "record": 1,
        },
        meant={
            "output": ("missing",),  # it is made
            "identity": ("empty",),
            "notes": ("empty",),
            "baseline_episodes": ("0",),  # no baseline
            "workers": ("0",),  # in this process
            "record": ("0",),  # no video
        },
        named={"envs": "tasks or envs"},
    ),
    Case(
        read_curve,
        lambda folder: {"folder": _run(folder), "key": "train/loss"},
        meant={"folder": ("missing",), "key": ("empty",)},  # nothing was logged there yet: no points
    ),
    Case(
        EpisodeLog,
        lambda folder: {"folder": folder / "log", "settings": {"checkpoint": "abc"}},
        meant={"folder": ("missing",), "settings": ("empty",)},  # it is made; nothing decides but the task
    ),
    Case(
        write_report,
        lambda folder: {
            "path": folder / "report.html",
            "table": _table(),
            "title": "Evaluation",
            "notes": ["a note"],
            "curves": {"loss": {"train": [(0, 1.0)]}},
            "episodes": [],
            "rate_hz": 10.0,
        },
        meant={
            "path": ("missing",),  # it is written
            "title": ("empty",),
            "notes": ("empty",),
            "curves": ("empty",),
        },
    ),
    Case(
        EvaluationTable,
        lambda folder: {"tasks": [_table().tasks[0]], "seconds": {"evaluation": 1.0}},
        meant={"seconds": ("empty",)},  # nobody took the time
    ),
    Case(
        SuccessCount,
        lambda folder: {"successes": 1, "episodes": 2, "errors": 0},
        meant={"successes": ("0",), "errors": ("0",)},
    ),
]

WITHOUT_CASE = {
    "vla_kit.evaluation.caption_rubric.CaptionScore": "a result of score_captions",
    "vla_kit.evaluation.rollout.EpisodeResult": "a result of evaluate",
    "vla_kit.evaluation.table.TaskRow": "a row of results, counted by evaluate_tasks; SuccessCount checks its numbers",
}
