"""Success rates of an evaluation, with intervals and beside the ceiling and the floor."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_kit.errors import SettingError
from vla_kit.evaluation.atomic import write_atomically
from vla_kit.evaluation.rollout import EpisodeResult
from vla_kit.metrics import wilson_interval

__all__ = ["EvaluationTable", "SuccessCount", "TaskRow"]


@dataclass(frozen=True, slots=True)
class SuccessCount:
    """Successes among episodes.

    Args:
        successes: Episodes that succeeded.
        episodes: All episodes, at least 1.

    Raises:
        SettingError: If `episodes` is below 1 or `successes` lies outside [0, episodes].

    Examples:
        >>> count = SuccessCount(15, 20)
        >>> count.rate, [round(end, 2) for end in count.interval]
        (0.75, [0.53, 0.89])
        >>> str(count)
        '75% (53-89), 15/20'
    """

    successes: int
    episodes: int

    def __post_init__(self) -> None:
        wilson_interval(self.successes, self.episodes)

    @classmethod
    def of(cls, results: Sequence[EpisodeResult]) -> "SuccessCount":
        """Count results."""
        return cls(sum(result.success for result in results), len(results))

    @property
    def rate(self) -> float:
        """Share of successes."""
        return self.successes / self.episodes

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the rate."""
        return wilson_interval(self.successes, self.episodes)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.rate:.0%} ({100 * low:.0f}-{100 * high:.0f}), {self.successes}/{self.episodes}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """One task of an evaluation.

    Args:
        name: Name in the registry.
        embodiment: Name of the robot.
        policy: The policy with the task's own sentences.
        expert: The demonstrator on the same kind of seeds, if it was run.
        random: Random actions, if they were run.
        swapped: The policy told the sentence of the task that shares the scene, if it was run; success is still that
            of this task, so a policy that listens is low here.
    """

    name: str
    embodiment: str
    policy: SuccessCount
    expert: SuccessCount | None = None
    random: SuccessCount | None = None
    swapped: SuccessCount | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationTable:
    """All tasks of an evaluation, and how long things took.

    Args:
        tasks: One row per task.
        seconds: Part of the work -> wall-clock time [s].

    Raises:
        SettingError: If there is no task or two share a name.

    Examples:
        >>> row = TaskRow(name="metaworld/reach", embodiment="metaworld_sawyer", policy=SuccessCount(9, 10))
        >>> table = EvaluationTable(tasks=[row], seconds={"evaluation": 60.0})
        >>> table.summary()["tasks"][0]["successes"], table.summary()["minutes"]["total"]
        (9, 1.0)
    """

    tasks: Sequence[TaskRow]
    seconds: Mapping[str, float]

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        if not names or len(set(names)) < len(names):
            raise SettingError(f"tasks must be one or more with names of their own, got {names}. Merge or rename them.")

    def summary(self) -> dict[str, Any]:
        """The table as JSON values: `tasks`, `average`, `seconds` and `minutes`; rates lie in [0, 1]."""
        return {
            "tasks": [
                {
                    "name": task.name,
                    "embodiment": task.embodiment,
                    "successes": task.policy.successes,
                    "episodes": task.policy.episodes,
                    "success": task.policy.rate,
                    "low": task.policy.interval[0],
                    "high": task.policy.interval[1],
                    "expert": None if task.expert is None else task.expert.rate,
                    "random": None if task.random is None else task.random.rate,
                    "swapped": None if task.swapped is None else task.swapped.rate,
                }
                for task in self.tasks
            ],
            "average": {"success": sum(task.policy.rate for task in self.tasks) / len(self.tasks)},
            "seconds": dict(self.seconds),
            "minutes": {
                **{part: value / 60 for part, value in self.seconds.items()},
                "total": sum(self.seconds.values()) / 60,
            },
        }

    def write_json(self, path: str | Path) -> None:
        """Write the summary, whole or not at all.

        Args:
            path: File to write or replace.
        """
        write_atomically(Path(path), json.dumps(self.summary(), indent=2) + "\n")
