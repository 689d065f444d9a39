"""Drop episodes in which the robot moves another way than its actions tell it to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vla_kit.data.cleaning._following import FOLLOWS, Reference, channel_references, count_agreement, names_of
from vla_kit.data.cleaning.examined_episode import ExaminedEpisode
from vla_kit.data.cleaning.rule import Judgement, Limit, Measurement
from vla_kit.data.cleaning.rules._settings import check_count, check_reference, check_threshold

__all__ = ["DirectionAgreement"]

_FEWEST: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectionAgreement:
    """Share of moves in which the state goes where the action says, over channels and time; 0.5 is chance.

    A move is a stretch of `steps` frames in which both change noticeably, see `count_agreement`. It works for targets
    and for displacements. With `auto` each channel is what the data set says that it is, and channels that follow in
    neither way in the median episode are left out and named: if they should follow, the data set is wrong as a whole.
    Say `absolute` or `delta` to judge every channel.

    Args:
        threshold: Smallest share that stays [0, 1].
        reference: Meaning of the actions.
        steps: Frames of a move; more than the delay of the controller.

    Raises:
        SettingError: If a setting is out of range or `reference` unknown.

    Examples:
        >>> DirectionAgreement().limit
        Limit(threshold=0.6, drops='below')

    Source:
        RManip, as `qwen-vla-paper.md` section 5.5 lists it: agreement of at least 0.6 to 0.7, by which 81 % of
        RoboMIND-UR is dropped. How the agreement is counted is not published; this way is ours.
    """

    threshold: float = FOLLOWS
    reference: Reference = "auto"
    steps: int = 3

    def __post_init__(self) -> None:
        check_threshold(self.threshold, most=1)
        check_reference(self.reference)
        check_count("steps", self.steps)

    @property
    def name(self) -> str:
        """Key in the decision file."""
        return "direction_agreement"

    @property
    def quantity(self) -> str:
        """What is measured."""
        return "share of moves in which state and action agree"

    @property
    def limit(self) -> Limit:
        """Which values drop an episode."""
        return Limit(self.threshold, drops="below")

    def measure(self, episode: ExaminedEpisode) -> Measurement | None:
        """Agreeing and all moves per channel."""
        actions, state = episode.actions, episode.state
        if state is None or len(state) != len(actions):
            return None
        return Measurement(count_agreement(actions, state, steps=self.steps))

    def judge(self, measured: Sequence[Measurement | None]) -> Judgement:
        """Agreement over the channels that follow; None for an episode of fewer than 10 moves."""
        known = [each.numbers for each in measured if each is not None]
        if not known:
            return Judgement((None,) * len(measured), "No state to compare with.")
        counts = np.stack(known)
        references = channel_references(counts, reference=self.reference)
        rows = [
            (0 if reference == "absolute" else 2, channel) for channel, reference in enumerate(references) if reference
        ]
        moves = counts[:, 1].max(axis=0) > 0
        ignored = [channel for channel, reference in enumerate(references) if reference is None and moves[channel]]
        kinds = {
            kind: names_of([channel for channel, reference in enumerate(references) if reference == kind])
            for kind in ("absolute", "delta")
        }
        note = "".join(f"Channels read as {kind}: {names}. " for kind, names in kinds.items() if names)
        if ignored:
            note += f"Left out, since the state does not follow them in most episodes: channels {names_of(ignored)}."
        values: list[float | None] = []
        for each in measured:
            agreeing = sum(int(each.numbers[row, channel]) for row, channel in rows) if each else 0
            total = sum(int(each.numbers[row + 1, channel]) for row, channel in rows) if each else 0
            values.append(agreeing / total if total >= _FEWEST else None)
        return Judgement(tuple(values), note.strip())
