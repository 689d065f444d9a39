"""Closed-loop evaluation: episodes in simulators, success rates with intervals, a report.

`vla_kit.evaluation.report` and `vla_kit.evaluation.closed_loop`, a callback of Lightning, are imported by name.
"""

from vla_kit.evaluation.curves import draw_curves, read_curve
from vla_kit.evaluation.episode_log import EpisodeLog
from vla_kit.evaluation.rollout import ChunkPolicy, EpisodeResult, evaluate, evaluate_expert, evaluate_random
from vla_kit.evaluation.seeds import check_evaluation_seeds, evaluation_seeds
from vla_kit.evaluation.suite import evaluate_tasks
from vla_kit.evaluation.table import EvaluationTable, SuccessCount, TaskRow
from vla_kit.evaluation.task import EvaluationTask, ShiftedScenes, own_task, registered_task

__all__ = [
    "ChunkPolicy",
    "EpisodeLog",
    "EpisodeResult",
    "EvaluationTable",
    "EvaluationTask",
    "ShiftedScenes",
    "SuccessCount",
    "TaskRow",
    "check_evaluation_seeds",
    "draw_curves",
    "evaluate",
    "evaluate_expert",
    "evaluate_random",
    "evaluate_tasks",
    "evaluation_seeds",
    "own_task",
    "read_curve",
    "registered_task",
]
