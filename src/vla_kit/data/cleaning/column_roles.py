"""Which columns of a data set are its actions and its state, found by their names or told."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from vla_kit.data.source import EpisodeSource
from vla_kit.errors import DataError, SettingError

__all__ = ["ColumnRoles", "find_roles"]

_ACTIONS: Final = ("action", "actions")
# What follows the usual actions comes first; robomimic's `states` are those of the simulator.
_STATES: Final = (
    "state", "qpos", "proprio", "robot_state", "robot0_eef_pos", "ee_states", "joint_states", "robot0_joint_pos",
    "robot_states", "states",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnRoles:
    """Columns by their meaning for cleaning.

    Args:
        action: Keys of the actions.
        state: Keys of the proprioception; empty where there is none.
        cameras: Keys of the cameras.

    Raises:
        SettingError: If there is no action, or a text stands where keys should.

    Examples:
        >>> ColumnRoles(action=("action",)).state
        ()
    """

    action: tuple[str, ...]
    state: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("action", "state", "cameras"):
            if isinstance(keys := getattr(self, name), str):
                raise SettingError(f"{name} must be a tuple of keys, got {keys!r}. Write ({keys!r},).")
        if not self.action:
            raise SettingError("action must name at least one column, got none. See find_roles.")


def find_roles(
    source: EpisodeSource,
    *,
    action: Sequence[str] | None = None,
    state: Sequence[str] | None = None,
    cameras: Sequence[str] | None = None,
) -> ColumnRoles:
    """Find actions, state and cameras of a data set.

    What is not told is found by name: `action` or `actions` and the usual names of a state, alone or as the last part
    of a path (`observation.state`, `observations/qpos`). Where actions are stored in pieces (`action.left_arm`), all
    pieces are taken. All cameras are taken.

    Args:
        source: Data set.
        action: Keys of the actions; found where None.
        state: Keys of the state; found where None, and empty where the data set has none.
        cameras: Keys of the cameras; all where None.

    Raises:
        DataError: If a key is not in the data set, or no actions are found.

    Examples:
        >>> import numpy as np
        >>> from vla_kit.data.memory_source import MemoryEpisode, MemorySource
        >>> columns = {"actions": np.zeros((2, 7)), "obs/state": np.zeros((2, 7))}
        >>> find_roles(MemorySource([MemoryEpisode(columns=columns)]))
        ColumnRoles(action=('actions',), state=('obs/state',), cameras=())
    """
    found_action = _checked(source, "action", action, source.columns) if action is not None else _actions(source)
    if not found_action:
        raise DataError(
            f"{source.location} must have actions, got the columns {sorted(source.columns)}. Name them with --action."
        )
    return ColumnRoles(
        action=found_action,
        state=_states(source) if state is None else _checked(source, "state", state, source.columns),
        cameras=tuple(source.cameras) if cameras is None else _checked(source, "cameras", cameras, source.cameras),
    )


def _checked(source: EpisodeSource, argument: str, keys: Sequence[str], known: Iterable[str]) -> tuple[str, ...]:
    missing = [key for key in keys if key not in set(known)]
    if missing:
        raise DataError(
            f"{argument} must name columns or cameras of {source.location}, got {missing[0]!r}. "
            f"Choose from {sorted(known)}."
        )
    return tuple(keys)


def _actions(source: EpisodeSource) -> tuple[str, ...]:
    named = [key for name in _ACTIONS for key in source.columns if _parts(key)[-1] == name]
    if named:
        return (min(named, key=lambda key: len(_parts(key))),)
    return tuple(key for key in source.columns if _parts(key)[0] in _ACTIONS)


def _states(source: EpisodeSource) -> tuple[str, ...]:
    named = [key for name in _STATES for key in source.columns if _parts(key)[-1] == name]
    if named:
        return (named[0],)
    return tuple(key for key in source.columns if "state" in _parts(key)[:-1])


def _parts(key: str) -> list[str]:
    return key.lower().replace("/", ".").strip(".").split(".")
