"""Whether the state of a robot follows its actions, channel by channel, as displacement or as target."""

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

__all__ = ["FOLLOWS", "Reference", "channel_references", "count_agreement", "names_of"]

Reference = Literal["auto", "absolute", "delta"]

FOLLOWS: Final = 0.6
"""Share of agreeing moves from which a channel counts as following its action (RManip: 0.6 to 0.7)."""

_STILL: Final = 1e-3  # a channel of less range than this does not move [native unit]
_MOVING: Final = 0.05  # a move is at least this share of the channel's largest


def count_agreement(
    actions: Float[ndarray, "step size"], state: Float[ndarray, "step state_size"], *, steps: int = 3
) -> Int[ndarray, "4 channel"]:
    """Count in how many moves a state channel went where its action channel told it to go.

    A move is a stretch of `steps` frames in which both change by more than 5 % of the channel's range. Channel i of
    the action is compared with channel i of the state. A target (absolute action) tells the direction by its change,
    a displacement (delta action) by its sum.

    Args:
        actions: Actions as stored.
        state: State as stored.
        steps: Frames of a move; more than the delay of the controller.

    Returns:
        Rows: agreeing and all moves if the action were a target, agreeing and all moves if it were a displacement.

    Examples:
        >>> state = np.linspace(0, 1, 9)[:, None] ** 2
        >>> count_agreement(state, state)[:2].tolist()  # a target that is followed at once
        [[6], [6]]
        >>> count_agreement(-state, state)[0].item()
        0
    """
    channels = min(actions.shape[1], state.shape[1])
    if len(actions) <= steps:
        return np.zeros((4, channels), dtype=np.int64)
    actions, state = actions[:, :channels], state[:, :channels]
    moved = state[steps:] - state[:-steps]
    summed = np.concatenate([np.zeros((1, channels)), np.cumsum(actions, axis=0)])
    told = {"absolute": actions[steps:] - actions[:-steps], "delta": (summed[steps:] - summed[:-steps])[: len(moved)]}
    range_of_state = np.ptp(state, axis=0)
    both_move = (range_of_state > _STILL) & (np.ptp(actions, axis=0) > _STILL)
    rows = []
    for change in told.values():
        largest = np.abs(change).max(axis=0)
        moving = (np.abs(moved) > _MOVING * range_of_state) & (np.abs(change) > _MOVING * largest)
        rows += [(moving & both_move & (moved * change > 0)).sum(axis=0), (moving & both_move).sum(axis=0)]
    return np.stack(rows)


def channel_references(
    counts: Int[ndarray, "episode 4 channel"], *, reference: Reference = "auto"
) -> list[Literal["absolute", "delta"] | None]:
    """Decide for each channel whether its action is a target or a displacement, from what the whole set does.

    Args:
        counts: Rows of `count_agreement` of every episode.
        reference: What all channels are known to be; `auto` finds out.

    Returns:
        Meaning per channel: that in which the median episode agrees more often. None where it agrees in less than 0.6
        of its moves either way, or never moves.

    Examples:
        >>> channel_references(np.array([[[9, 1], [10, 10], [5, 2], [10, 10]]]))
        ['absolute', None]
    """
    if reference != "auto":
        return [reference] * counts.shape[2]
    found: list[Literal["absolute", "delta"] | None] = []
    for channel in range(counts.shape[2]):
        medians = []
        for agreeing, moves in (counts[:, 0:2, channel].T, counts[:, 2:4, channel].T):
            moving = moves > 0
            medians.append(float(np.median(agreeing[moving] / moves[moving])) if moving.any() else 0.0)
        if max(medians) < FOLLOWS:
            found.append(None)
        else:
            found.append("absolute" if medians[0] >= medians[1] else "delta")
    return found


def names_of(channels: Sequence[int]) -> str:
    """Channel numbers for a note, neighbours joined.

    Examples:
        >>> names_of([0, 1, 2, 6])
        '0-2, 6'
    """
    runs: list[list[int]] = []
    for channel in channels:
        if runs and channel == runs[-1][-1] + 1:
            runs[-1].append(channel)
        else:
            runs.append([channel])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
