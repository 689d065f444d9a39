"""Statistics that a run needs before it trains: of the actions and, for a model that reads them, of the states."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from vla_kit.actions import QuantileStats
from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.data.statistics import ActionPart, StatisticsCache, merged_action_statistics, merged_state_statistics

if TYPE_CHECKING:
    from vla_kit.training.vla_module import VLAModule

__all__ = ["RunStatistics", "run_statistics"]


@dataclass(frozen=True, kw_only=True)
class RunStatistics:
    """Statistics of all frames of a run.

    Args:
        actions: Embodiment -> statistics of its actions.
        states: Embodiment -> statistics of its states; empty for a model that reads none.
    """

    actions: Mapping[str, QuantileStats] = field(default_factory=dict)
    states: Mapping[str, QuantileStats] = field(default_factory=dict)

    def changed(self, change: Callable[[str, QuantileStats], QuantileStats]) -> "RunStatistics":
        """The statistics of the actions as an augmentation changes them: `(embodiment, statistics) -> statistics`."""
        return replace(self, actions={name: change(name, stats) for name, stats in self.actions.items()})

    def give(self, module: "VLAModule") -> None:
        """Tell the module.

        Raises:
            StatisticsError: If it has other ones.
        """
        for name, stats in self.actions.items():
            module.add_statistics(name, stats)
        for name, stats in self.states.items():
            module.add_state_statistics(name, stats)


def run_statistics(
    sets: Sequence[DemonstrationSet], *, horizon: Callable[[DemonstrationSet], int], with_state: bool
) -> RunStatistics:
    """Count the sets, or find what was counted before.

    Args:
        sets: Data sets of the run, each of which fits its robot.
        horizon: Steps of a chunk of a set.
        with_state: Whether the model reads states.
    """
    actions = [
        ActionPart(
            open=partial(one.open, with_views=False, with_state=False), episodes=one.episodes, horizon=horizon(one)
        )
        for one in sets
    ]
    states = [
        ActionPart(open=partial(one.open, with_views=False), episodes=one.episodes)
        for one in sets
        if with_state and one.state
    ]
    return RunStatistics(
        actions=merged_action_statistics(actions, cache=StatisticsCache()),
        states=merged_state_statistics(states, cache=StatisticsCache()),
    )
