"""Success rates of an evaluation, with intervals and beside the ceiling and the floor."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vla_kit.data.whole_file import write_whole
from vla_kit.errors import SettingError
from vla_kit.evaluation.rollout import EpisodeResult
from vla_kit.metrics import RateDifference, rate_difference, wilson_interval

__all__ = ["EvaluationTable", "SuccessCount", "TaskRow"]


@dataclass(frozen=True, slots=True)
class SuccessCount:
    """Successes among the episodes that ran, and how many did not run because their environment failed.

    Args:
        successes: Episodes that succeeded.
        episodes: Episodes that ran to their end.
        errors: Episodes whose environment failed twice; they count neither for nor against the policy.

    Raises:
        SettingError: If there is no episode and no error, or a number is out of range.

    Examples:
        >>> count = SuccessCount(15, 20)
        >>> count.rate, [round(end, 2) for end in count.interval]
        (0.75, [0.53, 0.89])
        >>> str(count), str(SuccessCount(15, 20, errors=2)), str(SuccessCount(0, 0, errors=2))
        ('75% (53-89), 15/20', '75% (53-89), 15/20, 2 errors', 'none ran, 2 errors')
    """

    successes: int
    episodes: int
    errors: int = 0

    def __post_init__(self) -> None:
        if self.errors < 0:
            raise SettingError(f"errors must be at least 0, got {self.errors}. Count them.")
        if self.episodes < 0 or not (self.episodes or self.errors):
            raise SettingError(f"episodes must be at least 1 where none failed, got {self.episodes}. Run one.")
        if not 0 <= self.successes <= self.episodes:
            raise SettingError(f"successes must lie in [0, {self.episodes}], got {self.successes}. Count them again.")

    @classmethod
    def of(cls, results: Sequence[EpisodeResult]) -> "SuccessCount":
        """Count results."""
        ran = [result.success for result in results if result.error is None]
        return cls(sum(ran), len(ran), errors=len(results) - len(ran))

    def __add__(self, other: "SuccessCount") -> "SuccessCount":
        return SuccessCount(
            self.successes + other.successes, self.episodes + other.episodes, errors=self.errors + other.errors
        )

    @property
    def rate(self) -> float:
        """Share of successes; NaN where no episode ran."""
        return self.successes / self.episodes if self.episodes else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the rate; everything where no episode ran."""
        return wilson_interval(self.successes, self.episodes) if self.episodes else (0.0, 1.0)

    def minus(self, other: "SuccessCount") -> RateDifference | None:
        """This rate less the other, with the interval of the difference; None where one of them has no episode."""
        if not (self.episodes and other.episodes):
            return None
        return rate_difference(self.successes, self.episodes, other.successes, other.episodes)

    def summary(self) -> dict[str, Any]:
        """The count as JSON values; the rate is null where no episode ran."""
        low, high = self.interval
        return {
            "successes": self.successes,
            "episodes": self.episodes,
            "errors": self.errors,
            "success": _json(self),
            "low": low,
            "high": high,
        }

    def __str__(self) -> str:
        errors = f", {self.errors} error{'s' if self.errors > 1 else ''}" if self.errors else ""
        if not self.episodes:
            return f"none ran{errors}"
        low, high = self.interval
        return f"{self.rate:.0%} ({100 * low:.0f}-{100 * high:.0f}), {self.successes}/{self.episodes}{errors}"


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
        shifts: Name of a change of the scene or the words -> the policy under it, on the same seeds.
        navigation: Who acted -> SPL and the other scores of `NavigationScores`, where robots navigate.
    """

    name: str
    embodiment: str
    policy: SuccessCount
    expert: SuccessCount | None = None
    random: SuccessCount | None = None
    swapped: SuccessCount | None = None
    shifts: Mapping[str, SuccessCount] = field(default_factory=dict)
    navigation: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def errors(self) -> int:
        """Episodes of all trials whose environment failed."""
        trials = [self.policy, self.expert, self.random, self.swapped, *self.shifts.values()]
        return sum(count.errors for count in trials if count is not None)


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

    @property
    def robots(self) -> dict[str, SuccessCount]:
        """Robot -> its episodes of all tasks together, for every robot."""
        pooled: dict[str, SuccessCount] = {}
        for task in self.tasks:
            before = pooled.get(task.embodiment)
            pooled[task.embodiment] = task.policy if before is None else before + task.policy
        return pooled

    @property
    def shifts(self) -> dict[str, tuple[SuccessCount, SuccessCount]]:
        """Name of a change -> all tasks that were run under it, and the same tasks without it."""
        pooled: dict[str, tuple[SuccessCount, SuccessCount]] = {}
        for task in self.tasks:
            for name, count in task.shifts.items():
                changed, plain = pooled.get(name, (None, None))
                pooled[name] = (
                    count if changed is None else changed + count,
                    task.policy if plain is None else plain + task.policy,
                )
        return pooled

    def summary(self) -> dict[str, Any]:
        """The table as JSON values: `tasks`, `average`, `shifts`, `seconds` and `minutes`; rates lie in [0, 1]."""
        rates = [task.policy.rate for task in self.tasks if task.policy.episodes]
        return {
            "tasks": [
                {
                    "name": task.name,
                    "embodiment": task.embodiment,
                    **task.policy.summary(),
                    "expert": _json(task.expert),
                    "random": _json(task.random),
                    "swapped": _json(task.swapped),
                    "all_errors": task.errors,
                    "shifts": {name: count.summary() for name, count in task.shifts.items()},
                    **({"navigation": _scores(task.navigation)} if task.navigation else {}),
                }
                for task in self.tasks
            ],
            "average": {
                "success": sum(rates) / len(rates) if rates else None,
                "errors": sum(task.policy.errors for task in self.tasks),
            },
            "shifts": {
                name: {**changed.summary(), "change": _change(changed.minus(plain))}
                for name, (changed, plain) in self.shifts.items()
            },
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

        Raises:
            DataError: If the file cannot be written.
        """
        write_whole(path, json.dumps(self.summary(), indent=2) + "\n")


def _json(count: SuccessCount | None) -> float | None:
    return None if count is None or not count.episodes else count.rate


def _scores(navigation: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """Scores as JSON values: what was not measured is null."""
    return {
        who: {name: None if math.isnan(value) else value for name, value in one.items()}
        for who, one in navigation.items()
    }


def _change(difference: RateDifference | None) -> dict[str, float] | None:
    if difference is None:
        return None
    return {"difference": difference.difference, "low": difference.low, "high": difference.high}
