"""One recorded data set of a mixture: where it lies, whose it is, what its actions mean, how often it is drawn."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from vla_kit.actions import Channel
from vla_kit.data._name import check_name
from vla_kit.data._rate import check_rate
from vla_kit.data.action_columns import ActionColumns
from vla_kit.data.captions.caption_mix import CaptionMix
from vla_kit.data.episodes import EpisodeReader
from vla_kit.data.readers.open import open_source
from vla_kit.data.robot_reader import RobotReader
from vla_kit.embodiment import EmbodimentSpec, History
from vla_kit.errors import DataError, SettingError

__all__ = ["DemonstrationSet"]

_PASSES: Final = 1.5  # reach of a channel that passes the normaliser; the others lie in [-1, 1]


@dataclass(frozen=True, kw_only=True)
class DemonstrationSet:
    """A data set of any format as part of a mixture: the block of YAML that adds it to a run.

    Args:
        root: Folder, file or hub id; the format is found by looking, see `open_source`.
        embodiment: Name of the robot for prompter and normaliser.
        actions: Pieces of the action, in the order of the robot's channels. A column's key alone takes the column as it
            is stored.
        state: Columns that hold the state of the robot, in the order of the channels of its `state_space`, in the
            language of `actions`. A model that reads no state does not look at them.
        views: View tag -> camera key, such as `{"cam_high": "observation.images.cam_high"}`, in the order in which the
            views enter the model.
        history: Earlier frames that every view shows beside the present one, such as `{frames: 8, rate_hz: 2}`; none
            where None.
        weight: Share of the mixture, at least 0, relative to the other sets.
        name: Name of the data set; that of the folder or file where None.
        stride: Frames from one training sample to the next. Where episodes follow a fixed plan and the policy looks
            once per chunk, the length of a chunk shows just the moments at which it will look.
        num_episodes: Take the first so many episodes, after those that `decisions` drop; all where None.
        rate_hz: Frames per second, where the data set does not know them or knows them wrongly.
        decisions: File of `vla-kit data clean`, whose dropped episodes are left out.
        captions: Fine-grained captions that some frames are told in place of their sentence, such as
            `{root: captions/pick, fine: 1, raw: 2}`; none where None.
        cache_frames: Keep every decoded frame in memory, see `RobotReader`.
        frame_cache: Folder on a local disk that keeps decoded frames; none where None.
        options: Further arguments of the format, see `open_source`, such as `{language: annotation.human.task}`.

    Raises:
        SettingError: If `weight` is negative or infinite, `rate_hz` is not above 0, `stride` or `num_episodes` is below
            1, `actions` or `state` is no list, or a name is empty.

    Examples:
        >>> DemonstrationSet(root="data/reach", embodiment="metaworld_sawyer").weight
        1.0
    """

    root: str
    embodiment: str
    actions: Sequence[str | ActionColumns] = ("action",)
    state: Sequence[str | ActionColumns] = ()
    views: Mapping[str, str] = field(default_factory=dict)
    history: History | None = None
    weight: float = 1.0
    name: str | None = None
    stride: int = 1
    num_episodes: int | None = None
    rate_hz: float | None = None
    decisions: str | None = None
    captions: CaptionMix | None = None
    cache_frames: bool = False
    frame_cache: str | None = None
    options: Mapping[str, str | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for argument in ("root", "embodiment", "name", "decisions", "frame_cache"):
            check_name(argument, getattr(self, argument))
        check_rate(self.rate_hz)
        if not 0 <= self.weight < math.inf:
            raise SettingError(
                f"weight must be at least 0 and finite, got {self.weight} for {self.root}. Use 0 to leave it out."
            )
        if isinstance(self.actions, str) or not self.actions:
            raise SettingError(f"actions must be a list, got {self.actions!r} for {self.root}. Such as [action].")
        if isinstance(self.state, str):
            raise SettingError(
                f"state must be a list, got {self.state!r} for {self.root}. Such as [observation.state]."
            )
        if self.num_episodes is not None and self.num_episodes < 1:
            raise SettingError(f"num_episodes must be at least 1, got {self.num_episodes}. Leave it out for all.")
        if self.stride < 1:
            raise SettingError(f"stride must be at least 1, got {self.stride} for {self.root}. Use 1 for every frame.")

    def open(self, *, with_views: bool = True, with_state: bool = True) -> RobotReader:
        """Open the data set: its metadata, and with `cache_frames` its frames.

        Args:
            with_views: Whether pictures will be read; without, none are decoded.
            with_state: Whether states will be read; without, their columns need not exist.

        Returns:
            A reader of all its episodes.

        Raises:
            DataError: If the data set or its captions are missing or broken, or it has no such column, channel or
                camera.
            MissingExtraError: If its format needs a library that is not installed.
        """
        source = open_source(self.root, name=self.name, options=self.options)
        if self.frame_cache is not None and with_views:
            from vla_kit.data.frame_cache import CachedSource  # the other users of a set need no cache

            source = CachedSource(source, self.frame_cache)
        return RobotReader(
            source,
            embodiment=self.embodiment,
            actions=_pieces(self.actions),
            state=_pieces(self.state) if with_state else (),
            views=self.views if with_views else {},
            rate_hz=self.rate_hz,
            captions=None if self.captions is None else self.captions.open(source),
            cache_frames=self.cache_frames and with_views,
        )

    def episodes(self, reader: EpisodeReader) -> list[int]:
        """Episodes to take of an opened set: those with an action that no decision drops.

        Raises:
            DataError: If the decisions are of another data set, or nothing is left.
        """
        steps = reader.num_steps
        short = [index for index in range(reader.num_episodes) if steps[index] < 1]
        if short:
            warnings.warn(
                f"{reader.location}: left out {len(short)} episodes without an action: {short[:8]}", stacklevel=2
            )
        dropped = frozenset(short)
        if self.decisions is not None:
            from vla_kit.data.cleaning.decisions import Decisions  # a set without decisions needs no cleaning

            decisions = Decisions.read(self.decisions)
            decisions.check(cast(RobotReader, reader))  # a reader of another kind is refused by its fingerprint
            dropped |= decisions.dropped
        kept = [index for index in range(reader.num_episodes) if index not in dropped]
        if not kept:
            raise DataError(
                f"{reader.location} must keep at least one episode, got all {reader.num_episodes} left out. "
                f"Edit {self.decisions or 'the data set'}, or drop the set from the mixture."
            )
        return kept[: self.num_episodes]

    def check(self, reader: RobotReader, spec: EmbodimentSpec, *, with_state: bool = False) -> None:
        """Refuse a data set that does not fit its robot, before the first step.

        Reads the actions of one episode.

        Args:
            reader: The opened set.
            spec: The robot.
            with_state: Whether the model will read states; those of an opened set are looked at in any case.

        Raises:
            DataError: If the number of channels of actions or state, the rate, or what deltas and grippers mean differ,
                or a state is missing.

        Warns:
            UserWarning: If a gripper that only opens and closes would be normalised.
        """
        names, size = spec.action_space.names, reader.action_size
        if size != len(names):
            pieces = ", ".join(
                f"{piece.column!r} gives {count}"
                for piece, count in zip(reader.recipe.pieces, reader.recipe.sizes, strict=True)
            )
            raise DataError(
                f"{reader.location}: actions must give the {len(names)} channels of {spec.name!r} {names}, got {size}: "
                f"{pieces}. Choose channels, or change the action_space of the robot."
            )
        if reader.rate_hz is not None and abs(reader.rate_hz - spec.rate_hz) > 1e-3 * spec.rate_hz:
            raise DataError(
                f"{reader.location}: rate_hz must be that of {spec.name!r}, {spec.rate_hz} Hz, got {reader.rate_hz} Hz."
                " Change rate_hz of the robot, which the prompt states; or set rate_hz here if the data set is wrong."
            )
        for place, channel in enumerate(spec.action_space.channels):
            _check_meaning(reader, place, channel, spec.name)
        self._check_grippers(reader, spec)
        if with_state or reader.state_size:
            self._check_state(reader, spec)

    def _check_state(self, reader: RobotReader, spec: EmbodimentSpec) -> None:
        names = () if spec.state_space is None else spec.state_space.names
        if not names and reader.state_size:
            raise DataError(
                f"{reader.location}: state must be left out for {spec.name!r}, which has no state_space, got "
                f"{reader.state_size} channels. Add a state_space to the robot, or leave state out."
            )
        if names and not self.state:
            raise DataError(
                f"{reader.location}: state must name the columns of the state of {spec.name!r}, which the model reads, "
                f"got none. Add state to the block of {self.root}, such as [observation.state], for {names}."
            )
        if reader.state_size != len(names):
            raise DataError(
                f"{reader.location}: state must give the {len(names)} channels of {spec.name!r} {names}, got "
                f"{reader.state_size}. Choose channels, or change the state_space of the robot."
            )

    def _check_grippers(self, reader: RobotReader, spec: EmbodimentSpec) -> None:
        grippers = [
            (place, channel)
            for place, channel in enumerate(spec.action_space.channels)
            if channel.kind == "gripper" or not channel.normalized
        ]
        if not grippers:
            return
        episode = self.episodes(reader)[0]
        actions = reader.actions(episode)
        for place, channel in grippers:
            values = actions[:, place]
            where = f"{reader.location}: {channel.name} of {spec.name!r}, {reader.recipe.column_of(place)[1]}"
            if channel.normalized and len(values.unique()) == 2:
                warnings.warn(
                    f"{where}: only opens and closes in episode {episode}, yet would be normalised: where one of its "
                    "values is rarer than 1 %, it is lost. Say normalized: false in the robot.",
                    stacklevel=3,
                )
            if not channel.normalized and values.abs().max() > _PASSES:
                warnings.warn(
                    f"{where}: reaches {values.abs().max():g} in episode {episode}, yet is not normalised: other "
                    "channels lie in [-1, 1]. Say normalized: true in the robot, unless that is meant.",
                    stacklevel=3,
                )


def _pieces(columns: Sequence[str | ActionColumns]) -> list[ActionColumns]:
    return [ActionColumns(one) if isinstance(one, str) else one for one in columns]


def _check_meaning(reader: RobotReader, place: int, channel: Channel, robot: str) -> None:
    piece, source = reader.recipe.column_of(place)
    delta = piece.representation != "absolute"
    if delta and not channel.normalized:
        raise DataError(
            f"{reader.location}: {channel.name} of {robot!r} must stay as it is stored, for it is not normalised, got "
            f"{piece.representation} of {source}. Give it an entry of its own in actions, without representation."
        )
    if delta and channel.reference == "absolute":
        raise DataError(
            f"{reader.location}: {channel.name} of {robot!r} must be a target, as its reference 'absolute' says, got "
            f"{piece.representation} of {source}. Say reference: delta in the robot, or leave the representation out."
        )
    if piece.pseudo and not delta and channel.reference == "delta":
        raise DataError(
            f"{reader.location}: {channel.name} of {robot!r} must be a displacement, as its reference 'delta' says, "
            f"got the next state of {source}. Choose delta_step or delta_chunk, or say reference: absolute in the "
            "robot."
        )
