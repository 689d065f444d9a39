"""Drop episodes in which the robot is not where its actions tell it to be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vla_kit.data.cleaning._following import names_of
from vla_kit.data.cleaning.examined_episode import ExaminedEpisode
from vla_kit.data.cleaning.rule import Judgement, Limit, Measurement
from vla_kit.data.cleaning.rules._settings import check_channels, check_channels_exist, check_threshold

__all__ = ["StateActionDistance"]

_ACTIVE_RANGE: Final = 0.05  # FineVLA: a channel of less range does not count [native unit]
_ACTIVE_DEVIATION: Final = 1e-3  # FineVLA: nor does one in which both stand still [native unit]
_CORRELATED: Final = 0.8
_SAME_RANGE: Final = 1.4
_FRAMES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class StateActionDistance:
    """Mean over frames of `|(state - action) / range|`, the L2 norm over channels.

    The range of a channel is that of state and action of the episode together; channels of less range than 0.05, or in
    which both stand still, do not count. Channel i of the action is compared with channel i of the state, at up to 32
    frames spread over the episode.

    This makes sense for targets alone. Where `channels` is None, a channel is compared where the data set as a whole
    says that its action is the target of its state: in the median episode they correlate by at least 0.8 and their
    ranges agree within a factor of 1.4. Displacements, and hand commands of another scale, drop out by this. A data
    set that is wrong as a whole drops out too and is not flagged: give `channels` where you know them.

    Args:
        threshold: Largest distance that stays. It grows with the root of the number of channels.
        channels: Channels to compare, of action and state alike, without grippers; found where None.

    Raises:
        SettingError: If `threshold` is out of range or a channel negative; when measured, if a channel does not exist.

    Examples:
        >>> StateActionDistance(threshold=0.5, channels=[0, 1, 2]).limit
        Limit(threshold=0.5, drops='above')

    Source:
        The measure and its thresholds are those of FineVLA (arXiv 2605.27284, same group as Qwen-VLA), whose released
        filter has 0.2 where a data set has no number of its own. How channels are found is ours.
    """

    threshold: float = 0.2
    channels: Sequence[int] | None = None

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        check_channels(self.channels)

    @property
    def name(self) -> str:
        """Key in the decision file."""
        return "state_action_distance"

    @property
    def quantity(self) -> str:
        """What is measured."""
        return "distance of state and action [ranges of the channels]"

    @property
    def limit(self) -> Limit:
        """Which values drop an episode."""
        return Limit(self.threshold)

    def measure(self, episode: ExaminedEpisode) -> Measurement | None:
        """Per channel: correlation, ratio of ranges, and the normalised differences at some frames."""
        actions, state = episode.actions, episode.state
        if state is None or len(actions) < 2 or len(state) != len(actions):
            return None
        size = min(actions.shape[1], state.shape[1])
        check_channels_exist(self.channels or (), size)
        actions, state = actions[:, :size], state[:, :size]
        extent = np.maximum(actions.max(axis=0), state.max(axis=0)) - np.minimum(actions.min(axis=0), state.min(axis=0))
        deviations = actions.std(axis=0), state.std(axis=0)
        active = (extent >= _ACTIVE_RANGE) & (np.maximum(*deviations) >= _ACTIVE_DEVIATION)
        both_move = np.minimum(*deviations) > 1e-9
        covariance = ((actions - actions.mean(axis=0)) * (state - state.mean(axis=0))).mean(axis=0)
        correlation = np.divide(covariance, deviations[0] * deviations[1], out=np.zeros(size), where=both_move)
        ratio = np.divide(np.ptp(state, axis=0), np.ptp(actions, axis=0), out=np.zeros(size), where=both_move)
        difference = np.divide(actions - state, extent, out=np.zeros_like(actions), where=active)
        sampled = np.zeros((_FRAMES, size))
        frames = episode.spread(_FRAMES)
        sampled[: len(frames)] = difference[list(frames)]
        sampled[len(frames) :] = np.nan
        return Measurement(np.concatenate([np.stack([active, correlation, ratio]), sampled]).astype(np.float32))

    def judge(self, measured: Sequence[Measurement | None]) -> Judgement:
        """Distance over the channels that are targets."""
        known = [each.numbers for each in measured if each is not None]
        if not known:
            return Judgement((None,) * len(measured), "No state to compare with.")
        compared = self._targets(known) if self.channels is None else list(self.channels)
        if not compared:
            return Judgement(
                (None,) * len(measured),
                "No channel in which the action is the target of the state. If the actions are targets, either "
                "the data set is wrong as a whole or the channels have another order; name them with `channels`.",
            )
        values = tuple(
            None if each is None else float(np.nanmean(np.linalg.norm(each.numbers[3:, compared], axis=1)))
            for each in measured
        )
        return Judgement(values, f"Compared channels: {names_of(compared)}.")

    @staticmethod
    def _targets(known: Sequence[np.ndarray]) -> list[int]:
        found = []
        for channel in range(known[0].shape[1]):
            moving = np.array([numbers[1:3, channel] for numbers in known if numbers[0, channel]])
            if not len(moving):
                continue
            correlation, ratio = np.median(moving, axis=0)
            if correlation >= _CORRELATED and 1 / _SAME_RANGE <= ratio <= _SAME_RANGE:
                found.append(channel)
        return found
