"""Drop episodes in which the action or the state leaps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from vla_kit.data.cleaning._following import Reference, channel_references, count_agreement, names_of
from vla_kit.data.cleaning.examined_episode import ExaminedEpisode
from vla_kit.data.cleaning.rule import Judgement, Limit, Measurement
from vla_kit.data.cleaning.rules._settings import check_reference, check_threshold
from vla_kit.errors import SettingError

__all__ = ["SuddenJumps"]

_STILL: Final = 1e-3  # a channel of less range than this does not move [native unit]
_TURN: Final = 2 * math.pi
_FEWEST: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class SuddenJumps:
    """Largest step from one frame to the next, as a share of the range of its channel.

    The range is the larger of the episode's own and that of the data set (from the 10th percentile of the episodes'
    minima to the 90th of their maxima, so that few broken episodes do not stretch it). A step within 5 % of a full
    turn (2 pi) is an angle that wraps, and counts as what is left of it. An episode of fewer than 20 frames is not
    measured: every quick motion is a large share of it.

    Channels that step by half the threshold in the median episode are switches, such as grippers, or noise; they are
    left out and named in the report. So is an action channel of which nobody can say whether it is a target or a
    displacement; a displacement is summed up, since what must not leap is the motion. With `auto` the state tells:
    see `channel_references`.

    Args:
        of: Column to look at. The name of the rule is `state_jumps` or `action_jumps`.
        threshold: Largest share that stays [0, 1].
        reference: Meaning of the actions; ignored for the state.

    Raises:
        SettingError: If `of` or `reference` is unknown, or `threshold` is out of range.

    Examples:
        >>> SuddenJumps(of="action", reference="absolute").name
        'action_jumps'

    Source:
        RManip, the second of the filters that `qwen-vla-paper.md` section 5.5 lists: sudden changes, grippers exempt.
        Neither it nor the paper gives a number; 0.5 is ours.
    """

    of: Literal["state", "action"] = "state"
    threshold: float = 0.5
    reference: Reference = "auto"

    def __post_init__(self) -> None:
        if self.of not in ("state", "action"):
            raise SettingError(f"of must be 'state' or 'action', got {self.of!r}. Choose one of them.")
        check_threshold(self.threshold, most=1)
        check_reference(self.reference)

    @property
    def name(self) -> str:
        """Key in the decision file."""
        return f"{self.of}_jumps"

    @property
    def quantity(self) -> str:
        """What is measured."""
        return f"largest step of the {self.of} [share of the channel's range]"

    @property
    def limit(self) -> Limit:
        """Which values drop an episode."""
        return Limit(self.threshold)

    def measure(self, episode: ExaminedEpisode) -> Measurement | None:
        """Largest step, minimum and maximum per channel, of the values and of their sums, and what the state says."""
        values = episode.actions if self.of == "action" else episode.state
        if values is None or len(values) < _FEWEST:
            return None
        if self.of == "state":
            return Measurement(_steps_and_range(values))
        state = episode.state
        counts = np.zeros((4, values.shape[1]))
        if state is not None and len(state) == len(values):
            found = count_agreement(values, state)
            counts[:, : found.shape[1]] = found
        return Measurement(
            np.concatenate([_steps_and_range(values), _steps_and_range(np.cumsum(values, axis=0)), counts])
        )

    def judge(self, measured: Sequence[Measurement | None]) -> Judgement:
        """The worst channel of those in which leaps are unusual."""
        known = [each.numbers for each in measured if each is not None]
        if not known:
            return Judgement((None,) * len(measured), f"No {self.of} to look at.")
        numbers = np.stack(known)
        unclear: list[int] = []
        if self.of == "action":
            references = channel_references(numbers[:, 6:], reference=self.reference)
            unclear = [
                channel
                for channel, reference in enumerate(references)
                if reference is None and numbers[:, 0, channel].max() > _STILL
            ]
            summed = np.array([reference == "delta" for reference in references])
            numbers = np.where(summed, numbers[:, 3:6], numbers[:, :3])
        step, low, high = numbers[:, 0], numbers[:, 1], numbers[:, 2]
        of_set = np.quantile(high, 0.9, axis=0) - np.quantile(low, 0.1, axis=0)
        extent = np.maximum(high - low, of_set)
        share = np.divide(step, extent, out=np.zeros_like(step), where=extent > _STILL)
        switches = np.flatnonzero(np.median(share, axis=0) >= self.threshold / 2)
        share[:, [*unclear, *switches]] = 0
        values = iter(share.max(axis=1).tolist())
        notes = []
        if switches.size:
            notes.append(f"Left out as switches or noise: channels {names_of(switches.tolist())}.")
        if unclear:
            notes.append(f"Left out, since the state follows neither their value nor their sum: {names_of(unclear)}.")
        if len({*unclear, *switches.tolist()}) == share.shape[1]:
            return Judgement((None,) * len(measured), " ".join(notes))
        return Judgement(tuple(None if each is None else next(values) for each in measured), " ".join(notes))


def _steps_and_range(values: Float[ndarray, "step size"]) -> Float[ndarray, "3 size"]:
    steps = np.abs(np.diff(values, axis=0))
    steps = np.where(np.abs(steps - _TURN) < 0.05 * _TURN, np.abs(steps - _TURN), steps)
    return np.stack([steps.max(axis=0), values.min(axis=0), values.max(axis=0)])
