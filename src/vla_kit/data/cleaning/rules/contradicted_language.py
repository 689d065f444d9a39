"""Drop episodes that move as the opposite of their sentence does elsewhere in the data set."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from vla_kit.data.cleaning.examined_episode import ExaminedEpisode
from vla_kit.data.cleaning.rule import Judgement, Limit, Measurement
from vla_kit.data.cleaning.rules._settings import check_count, check_threshold
from vla_kit.errors import SettingError

__all__ = ["OPPOSITES", "ContradictedLanguage"]

OPPOSITES: Final = (
    ("open", "close"), ("push", "pull"), ("left", "right"), ("up", "down"), ("on", "off"), ("in", "out"),
    ("raise", "lower"), ("lift", "lower"), ("clockwise", "counterclockwise"), ("forward", "backward"),
    ("forwards", "backwards"), ("insert", "remove"), ("lock", "unlock"), ("plug", "unplug"), ("fold", "unfold"),
    ("tighten", "loosen"), ("pick", "place"),
)  # fmt: skip
"""Words that turn a task into its opposite."""

_CLEAR: Final = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class ContradictedLanguage:
    """How much more an episode moves like the opposite of its sentence than like its sentence; 0.5 is the middle.

    Two sentences of a data set are opposites where they differ in one word, and that word is turned round, such as
    "open the drawer" and "close the drawer". The motion of an episode is summed up by its mean action and by how far
    action and state get from the first to the last frame, and compared with the medians of both sentences:
    `distance to its own / (distance to its own + distance to the opposite)`.

    No model and no knowledge of frames is needed, and left may be left of the camera or of the robot. The price: it
    sees only what has an opposite in the same data set, with `episodes` episodes of each, and only where the two are
    told apart (median value of both below 0.4). A wrong object, a wrong colour or a free sentence needs a model.

    Args:
        threshold: Largest value that stays [0, 1].
        episodes: Fewest episodes of each of the two sentences.
        opposites: Pairs of words in small letters.

    Raises:
        SettingError: If a number is out of range, or `opposites` are no pairs of such words.

    Examples:
        >>> ContradictedLanguage().limit.violated_by(0.7)
        True

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.1, drops language that is inconsistent with the motion and does not say
        how it is found. This measure is ours.
    """

    threshold: float = 0.6
    episodes: int = 5
    opposites: Sequence[Sequence[str]] = OPPOSITES

    def __post_init__(self) -> None:
        check_threshold(self.threshold, most=1)
        check_count("episodes", self.episodes)
        wrong = [pair for pair in self.opposites if len(pair) != 2 or not all(map(_is_small, pair))]
        if wrong or not self.opposites:
            shown = wrong[0] if wrong else self.opposites
            raise SettingError(
                f"opposites must be pairs of words in small letters, got {shown!r}. Such as [open, close]."
            )

    @property
    def name(self) -> str:
        """Key in the decision file."""
        return "contradicted_language"

    @property
    def quantity(self) -> str:
        """What is measured."""
        return "distance to the motion of its sentence [share of that and of the distance to the opposite]"

    @property
    def limit(self) -> Limit:
        """Which values drop an episode."""
        return Limit(self.threshold)

    def measure(self, episode: ExaminedEpisode) -> Measurement | None:
        """Sentence and summary of the motion."""
        if not len(episode):
            return None
        words = re.findall(r"\w+", episode.instruction_at(0).lower())
        actions, state = episode.actions, episode.state
        parts = [actions.mean(axis=0), actions[-1] - actions[0]]
        if state is not None and len(state):
            parts.append(state[-1] - state[0])
        return Measurement(np.concatenate(parts).astype(np.float32), text=" ".join(words))

    def judge(self, measured: Sequence[Measurement | None]) -> Judgement:
        """Values of the episodes whose sentence has an opposite."""
        values: list[float | None] = [None] * len(measured)
        groups: dict[str, list[int]] = {}
        for index, each in enumerate(measured):
            if each is not None:
                groups.setdefault(each.text, []).append(index)
        groups = {sentence: members for sentence, members in groups.items() if len(members) >= self.episodes}
        compared, unclear = 0, 0
        for first, second in self._pairs(groups):
            motions = [np.stack([m.numbers for i in groups[side] if (m := measured[i])]) for side in (first, second)]
            found = _share_of_distance(*motions), _share_of_distance(*motions[::-1])
            if max(float(np.median(each)) for each in found) >= _CLEAR:
                unclear += 1
                continue
            compared += 1
            for side, shares in zip((first, second), found, strict=True):
                for index, share in zip(groups[side], shares.tolist(), strict=True):
                    values[index] = max(share, values[index] or 0.0)
        note = f"{compared} pairs of opposite sentences compared."
        if unclear:
            note += f" {unclear} more pairs left out, since their motions cannot be told apart."
        return Judgement(tuple(values), note)

    def _pairs(self, groups: dict[str, list[int]]) -> list[tuple[str, str]]:
        turned: dict[str, set[str]] = {}
        for one, other in self.opposites:
            turned.setdefault(one, set()).add(other)
            turned.setdefault(other, set()).add(one)
        pairs = set()
        for sentence in groups:
            words = sentence.split(" ")
            for place, word in enumerate(words):
                for other in turned.get(word, ()):
                    opposite = " ".join([*words[:place], other, *words[place + 1 :]])
                    if opposite in groups:
                        pairs.add((min(sentence, opposite), max(sentence, opposite)))
        return sorted(pairs)


def _is_small(word: str) -> bool:
    """Whether it is one word, as sentences are compared: in small letters."""
    return re.fullmatch(r"\w+", word) is not None and word == word.lower()


def _share_of_distance(
    own: Float[ndarray, "episode feature"], opposite: Float[ndarray, "other feature"]
) -> Float[ndarray, " episode"]:
    both = np.concatenate([own, opposite])
    spread = np.quantile(both, 0.75, axis=0) - np.quantile(both, 0.25, axis=0)
    moving = spread > 1e-6
    scale = np.where(moving, spread, 1.0)
    distances = [(np.abs(own - np.median(side, axis=0)) / scale)[:, moving].sum(axis=1) for side in (own, opposite)]
    total = distances[0] + distances[1]
    shares: ndarray = np.divide(distances[0], total, out=np.full(len(own), 0.5), where=total > 0)
    return shares
