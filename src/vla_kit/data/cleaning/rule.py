"""What a cleaning rule is: it measures an episode, and a limit decides which values drop it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from numpy import ndarray

from vla_kit.data.cleaning.examined_episode import ExaminedEpisode
from vla_kit.errors import SettingError

__all__ = ["CleaningRule", "Judgement", "Limit", "Measurement"]


@dataclass(frozen=True, slots=True)
class Limit:
    """The value at which a rule drops an episode.

    Args:
        threshold: The last value that stays.
        drops: Which side of the threshold drops.

    Raises:
        SettingError: If `threshold` is not finite, or `drops` unknown.

    Examples:
        >>> Limit(0.2).violated_by(0.2), Limit(0.2).violated_by(0.3), Limit(10, drops="below").violated_by(9)
        (False, True, True)
    """

    threshold: float
    drops: Literal["above", "below"] = "above"

    def __post_init__(self) -> None:
        if not math.isfinite(self.threshold):
            raise SettingError(f"threshold must be finite, got {self.threshold}. Leave the rule out to drop nothing.")
        if self.drops not in ("above", "below"):
            raise SettingError(f"drops must be 'above' or 'below', got {self.drops!r}. Choose one of them.")

    def violated_by(self, value: float) -> bool:
        """Whether a value drops its episode."""
        return value > self.threshold if self.drops == "above" else value < self.threshold

    def nearly_violated_by(self, value: float) -> bool:
        """Whether a value stays, but by less than a quarter of the threshold."""
        return not self.violated_by(value) and abs(value - self.threshold) < abs(self.threshold) / 4


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a rule keeps of one episode: small, since the measurements of a whole data set lie in memory together.

    Args:
        numbers: Of any shape that the rule chooses, the same for every episode of a data set.
        text: A sentence, for rules about language.

    Examples:
        >>> import numpy as np
        >>> float(Measurement(np.array(3.0)).numbers)
        3.0
    """

    numbers: ndarray
    text: str = ""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The values of a rule for every episode of a data set.

    Args:
        values: One value per episode; None where the rule does not apply or could not measure.
        note: What a reader of the report has to know, such as the channels that were left out.

    Raises:
        SettingError: If a value is NaN, which no limit drops.

    Examples:
        >>> import numpy as np
        >>> Judgement.of_single_numbers([Measurement(np.array(3.0)), None]).values
        (3.0, None)
    """

    values: tuple[float | None, ...]
    note: str = field(default="")

    def __post_init__(self) -> None:
        for index, value in enumerate(self.values):
            if value is not None and math.isnan(value):
                raise SettingError(f"values must be numbers or None, got NaN for episode {index}. Give None instead.")

    @classmethod
    def of_single_numbers(cls, measured: Sequence[Measurement | None]) -> "Judgement":
        """The numbers as they were measured: for rules that look at one episode at a time."""
        return cls(tuple(None if each is None else float(each.numbers) for each in measured))


@runtime_checkable
class CleaningRule(Protocol):
    """One reason to drop an episode. A new rule is a small class with these members; YAML names it by `class_path`.

    Repeat the types of `measure` and `judge` word for word: by them the command line knows a rule.

    Cleaning makes two passes. `measure` sees one episode, in a worker; `judge` sees the measurements of all episodes
    and gives each its value, so that a rule can ask what is usual in the data set. The limit then decides.
    """

    @property
    def name(self) -> str:
        """Key in the decision file, such as `static_actions`. The rules of a run have different names."""
        ...

    @property
    def quantity(self) -> str:
        """What is measured, with its unit: the label of the histogram."""
        ...

    @property
    def limit(self) -> Limit:
        """Which values drop an episode."""
        ...

    def measure(self, episode: ExaminedEpisode) -> Measurement | None:
        """Measure one episode.

        Returns:
            The measurement; None where the rule does not apply.

        Raises:
            DataError: If what the rule needs cannot be read. The episode is reported as not measured by this rule.
        """
        ...

    def judge(self, measured: Sequence[Measurement | None]) -> Judgement:
        """Turn the measurements of a whole data set, in the order of its episodes, into one value each."""
        ...
