"""How a gripper moves in an episode, and what a sentence says about grasping."""

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from vla_kit.data.cleaning.examined_episode import ExaminedEpisode
from vla_kit.data.cleaning.rule import Measurement
from vla_kit.data.cleaning.rules._settings import check_channels_exist

__all__ = ["NO_GRIPPER", "gripped", "measure_grips", "tells_to_grasp", "told_count"]

NO_GRIPPER: Final = "No channel is named as a gripper. Name them with `channels`, counted from 0."

_USED: Final = 0.25  # a gripper that uses less of its range in the data set rests
_LOW, _HIGH = 1 / 3, 2 / 3  # of its range in the episode: a change goes from beyond one to beyond the other
_VERBS: Final = r"(?:pick|grasp|grab|take|lift|hold|carry|fetch|move|put|place)"
_GRASPING: Final = re.compile(r"\b(?:pick|grasp|grabb?|lift|fetch|carry|carri)(?:s|es|ing|ed)?\b")
_NUMBERS: Final = {"both": 2, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_COUNTED: Final = re.compile(
    rf"\b{_VERBS}\s+(?:up\s+|out\s+)?(?:the\s+|all\s+|all\s+the\s+)?({'|'.join(_NUMBERS)}|[2-9])\b"
    r"(?!\s*(?:times|steps|cm|mm|m)\b)"
)


def tells_to_grasp(sentence: str) -> bool:
    """Whether a sentence cannot be done without grasping: pick, grasp, grab, lift, fetch, carry."""
    return _GRASPING.search(sentence.lower()) is not None


def told_count(sentence: str) -> int | None:
    """How many objects a sentence tells to move one by one; None where it names no number."""
    found = _COUNTED.search(sentence.lower())
    if found is None:
        return None
    return _NUMBERS.get(found[1]) or int(found[1])


def measure_grips(episode: ExaminedEpisode, channels: Sequence[int] | None) -> Measurement | None:
    """Lowest and highest place of each gripper, and how often it opens or closes.

    Args:
        episode: Episode.
        channels: Channels of the actions that are grippers; found by their names where None.

    Returns:
        Rows lowest, highest, changes; columns grippers. None where there is no gripper or no frame.

    Raises:
        SettingError: If a channel does not exist.
    """
    found = _named(episode) if channels is None else list(channels)
    if not found or not len(episode):
        return None
    check_channels_exist(found, episode.actions.shape[1])
    actions = episode.actions[:, found]
    low, high = actions.min(axis=0), actions.max(axis=0)
    changes = [_changes(track, bottom, top) for track, bottom, top in zip(actions.T, low, high, strict=True)]
    return Measurement(np.stack([low, high, np.array(changes, dtype=np.float64)]), text=episode.instruction_at(0))


def gripped(
    measured: Sequence[Measurement],
) -> tuple[Float[ndarray, "episode gripper"], Bool[ndarray, "episode gripper"]]:
    """Share of its range in the data set that each gripper uses in each episode, and whether that is a motion.

    Args:
        measured: Of `measure_grips`, at least one.
    """
    numbers = np.stack([each.numbers for each in measured])
    whole = numbers[:, 1].max(axis=0) - numbers[:, 0].min(axis=0)
    used = numbers[:, 1] - numbers[:, 0]
    shares: ndarray = np.divide(used, whole, out=np.zeros_like(used), where=whole > 0)
    return shares, shares >= _USED


def _named(episode: ExaminedEpisode) -> list[int]:
    return [place for place, name in enumerate(episode.action_names) if "grip" in name.lower()]


def _changes(track: Float[ndarray, " step"], low: float, high: float) -> int:
    if high <= low:
        return 0
    places = (track - low) / (high - low)
    sides = np.where(places > _HIGH, 1, np.where(places < _LOW, -1, 0))
    sides = sides[sides != 0]
    return int((sides[1:] != sides[:-1]).sum())
