"""Measure every episode of a data set by every rule, over blocks of episodes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from jaxtyping import Int
from numpy import ndarray

from vla_kit.data.cleaning.column_roles import ColumnRoles, find_roles
from vla_kit.data.cleaning.decisions import Decision, Decisions
from vla_kit.data.cleaning.examined_episode import ExaminedEpisode
from vla_kit.data.cleaning.rule import CleaningRule, Judgement, Measurement
from vla_kit.data.cleaning.rule_settings import rule_settings
from vla_kit.data.jobs import Executor, SerialExecutor, episode_blocks
from vla_kit.data.source import EpisodeSource
from vla_kit.errors import DataError, SettingError

__all__ = ["Findings", "RuleFindings", "find_faults", "measure_block"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFindings:
    """What one rule found in a data set.

    Args:
        rule: The rule.
        judgement: A value per episode.
        unmeasured: Episode -> why the rule could not measure it.

    Examples:
        >>> from vla_kit.data.cleaning.rules import MinimumFrames
        >>> RuleFindings(rule=MinimumFrames(), judgement=Judgement((3.0, None, 12.0)), unmeasured={}).dropped
        (0,)
    """

    rule: CleaningRule
    judgement: Judgement
    unmeasured: dict[int, str]

    @property
    def dropped(self) -> tuple[int, ...]:
        """Episodes beyond the limit, worst first."""
        return self._sorted(self.rule.limit.violated_by)

    @property
    def nearly_dropped(self) -> tuple[int, ...]:
        """Episodes within a quarter of the limit, nearest first."""
        return self._sorted(self.rule.limit.nearly_violated_by)

    def _sorted(self, chosen: Callable[[float], bool]) -> tuple[int, ...]:
        sign = -1 if self.rule.limit.drops == "above" else 1
        found = [
            (sign * value, i) for i, value in enumerate(self.judgement.values) if value is not None and chosen(value)
        ]
        return tuple(index for _, index in sorted(found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What all rules found in a data set.

    Args:
        source: The data set.
        roles: Which columns were read as what.
        rules: Findings of each rule, in the order of the rules.
    """

    source: EpisodeSource
    roles: ColumnRoles
    rules: tuple[RuleFindings, ...]

    @property
    def lengths(self) -> Int[ndarray, " episode"]:
        """Frames of each episode."""
        return self.source.lengths

    def decisions(self) -> Decisions:
        """A decision file that drops every episode beyond a limit."""
        entries = [
            Decision(
                episode=index,
                rule=each.rule.name,
                value=each.judgement.values[index],
                threshold=each.rule.limit.threshold,
            )
            for each in self.rules
            for index in each.dropped
        ]
        return Decisions(
            data_set=self.source.name,
            fingerprint=self.source.fingerprint,
            location=self.source.location,
            num_episodes=len(self.lengths),
            rules=tuple(rule_settings(each.rule) for each in self.rules),
            entries=tuple(entries),
            found=tuple((entry.rule, entry.episode) for entry in entries),
        )


Measured = list[tuple[list[Measurement | None], dict[int, str]]]


def find_faults(
    source: EpisodeSource,
    rules: Sequence[CleaningRule],
    *,
    roles: ColumnRoles,
    executor: Executor | None = None,
    block_frames: int = 20_000,
    watch: Callable[[Iterable[Measured], int], Iterable[Measured]] = lambda results, _: results,
) -> Findings:
    """Measure a data set by rules. Nothing is written.

    Args:
        source: Data set.
        rules: Rules of different names.
        roles: Which columns are actions and state, and which cameras to look at; see `find_roles`.
        executor: Runs the blocks of episodes; `SerialExecutor` where None.
        block_frames: Frames of a block of episodes.
        watch: Is handed the results of the blocks and their number and passes them on: for a progress bar.

    Returns:
        Values of every episode by every rule.

    Raises:
        SettingError: If there is no rule, two have the same name, or one judges another number of episodes.
        DataError: If a column or a camera is not in the data set.

    Examples:
        >>> import numpy as np
        >>> from vla_kit.data.cleaning.rules import StaticActions
        >>> from vla_kit.data.memory_source import MemoryEpisode, MemorySource
        >>> arrays = [np.linspace(0, 1, 20)[:, None], np.zeros((20, 1))]
        >>> source = MemorySource([MemoryEpisode(columns={"action": values}) for values in arrays])
        >>> findings = find_faults(source, [StaticActions()], roles=ColumnRoles(action=("action",)))
        >>> findings.rules[0].dropped
        (1,)
    """
    names = [rule.name for rule in rules]
    if not names or len(set(names)) != len(names):
        raise SettingError(f"rules must be at least one, of different names, got {names}. Leave out what is double.")
    roles = find_roles(source, action=roles.action, state=roles.state, cameras=roles.cameras)  # refuses unknown keys
    blocks = episode_blocks(source.lengths, block_frames)
    job = partial(measure_block, source=source, rules=tuple(rules), roles=roles)
    results = (executor or SerialExecutor()).map(job, blocks)
    measured = [each for block in watch(results, len(blocks)) for each in block]
    judged: list[RuleFindings] = []
    for place, rule in enumerate(rules):
        judgement = rule.judge([found[place] for found, _ in measured])
        if len(judgement.values) != len(measured):
            raise SettingError(
                f"{rule.name} must judge {len(measured)} episodes, got {len(judgement.values)} values. Give one each, "
                "None where it was not measured."
            )
        unmeasured = {index: why[place] for index, (_, why) in enumerate(measured) if place in why}
        judged.append(RuleFindings(rule=rule, judgement=judgement, unmeasured=unmeasured))
    return Findings(source=source, roles=roles, rules=tuple(judged))


def measure_block(
    block: Sequence[int], *, source: EpisodeSource, rules: Sequence[CleaningRule], roles: ColumnRoles
) -> Measured:
    """Measure some episodes by all rules: the job that executors run.

    Args:
        block: Episodes.
        source: Data set; it survives pickling.
        rules: Rules.
        roles: Which columns are actions and state.

    Returns:
        Per episode the measurement of each rule, and place of the rule -> why it could not measure.
    """
    results: Measured = []
    for index in block:
        episode = ExaminedEpisode(source, index, roles=roles)
        found: list[Measurement | None] = []
        why: dict[int, str] = {}
        for place, rule in enumerate(rules):
            try:
                found.append(rule.measure(episode))
            except (DataError, OSError) as error:
                found.append(None)
                why[place] = str(error)
        results.append((found, why))
    return results
