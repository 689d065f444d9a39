"""One piece of a robot's action: which numbers of which column, and what they shall mean."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import get_args

from vla_kit.actions import ActionRepresentation, DeltaFrame, Representation, RotationForm
from vla_kit.data._name import check_name
from vla_kit.data._suggestion import suggestion
from vla_kit.data.source import ColumnInfo
from vla_kit.errors import DataError, SettingError

__all__ = ["ActionColumns"]


@dataclass(frozen=True)
class ActionColumns:
    """Channels of a column that make a piece of the action; an action is one or more pieces in a row.

    Args:
        column: Key of the column in the data set, such as `action`.
        channels: `all`, a range such as `"0:6"` (in quotes; without the last), or a list of indices and of the
            column's names.
        representation: `absolute` gives the numbers as they are stored, whatever they mean; `delta_step` and
            `delta_chunk` subtract, see `ActionRepresentation`.
        reference: Column of the state that deltas start from: `delta_chunk` from the state at the chunk's first frame,
            `delta_step` from the target before, and only the first step of an episode from the state. The column
            itself where `pseudo`.
        reference_channels: The channels of `reference` that are the same quantities; those of `channels` where None.
        rotation: Form of the rotation that the last channels are; up to three channels before it are the position. None
            where nothing turns.
        output: Form in which the model gets the rotation; as stored where None.
        frame: Axes of the difference of two poses: of the `world` or of the earlier pose, the `body`.
        pseudo: For a data set without actions: the column is a state, and the action of a frame is the state one frame
            later. The last frame of an episode then has none.
        seen: Key of a column of one number that is 0 in frames where the numbers of `column` are not known, such as
            those of a hand out of sight. An action is known where its target is, and, unless `reference` is another
            column, what it is measured from. None where all are.

    Raises:
        SettingError: If settings contradict each other, are not among their choices or name nothing.

    Examples:
        >>> ActionColumns("action").channels
        'all'
        >>> ActionColumns("state", channels="0:6", pseudo=True, rotation="axis_angle").maths.size(6)
        6

    Source:
        Qwen-VLA, arXiv 2605.30280, section 2.4 (native signals), section 4.1 (finite differences of proprioception
        where actions are missing).
    """

    column: str
    _: KW_ONLY
    channels: str | Sequence[int | str] = "all"
    representation: Representation = "absolute"
    reference: str | None = None
    reference_channels: str | Sequence[int | str] | None = None
    rotation: RotationForm | None = None
    output: RotationForm | None = None
    frame: DeltaFrame = "world"
    pseudo: bool = False
    seen: str | None = None

    def __post_init__(self) -> None:
        for argument in ("channels", "reference_channels"):
            value = getattr(self, argument)
            if not isinstance(value, str) and value is not None:
                object.__setattr__(self, argument, tuple(value))
            if value is not None and not value:
                raise SettingError(
                    f"{argument} must name at least one channel, got {value!r} for {self.column!r}. Leave it out for "
                    "all."
                )
        for argument in ("column", "reference", "seen"):
            check_name(argument, getattr(self, argument))
        if self.representation not in get_args(Representation):
            raise SettingError(
                f"representation must be one of {get_args(Representation)}, got {self.representation!r} for "
                f"{self.column!r}. Choose one."
            )
        delta = self.maths.kind != "absolute"
        if delta and self.reference is None and not self.pseudo:
            raise SettingError(
                f"reference must name the column of the state that {self.representation} of {self.column!r} starts "
                "from, got None. Such as observation.state."
            )
        if not delta and self.reference is not None:
            raise SettingError(
                f"reference must be left out for absolute actions, got {self.reference!r} for {self.column!r}. "
                "Leave it out, or choose delta_step or delta_chunk."
            )
        if self.reference_channels is not None and self.reference is None:
            raise SettingError(
                f"reference_channels must be left out without reference, got {self.reference_channels!r} for "
                f"{self.column!r}. Name the column with reference."
            )

    @property
    def maths(self) -> ActionRepresentation:
        """How targets become actions."""
        return ActionRepresentation(
            kind=self.representation, rotation=self.rotation, output=self.output, frame=self.frame
        )


def channel_indices(channels: str | Sequence[int | str], key: str, info: ColumnInfo, *, location: str) -> list[int]:
    """Indices that `channels` of `ActionColumns` means in a column.

    Args:
        channels: The choice.
        key: Key of the column.
        info: What the data set says of the column.
        location: Where the data set lies, for messages.

    Raises:
        DataError: If a channel does not exist, is named twice, or there is none.

    Examples:
        >>> channel_indices(["grip", 0], "action", ColumnInfo(size=3, names=("x", "y", "grip")), location="set")
        [2, 0]
    """
    where = f"{location}: channels of {key!r}"
    if isinstance(channels, str):
        chosen = _range(channels, info.size, where=where)
    else:
        chosen = [_index(channel, info, where=where) for channel in channels]
    if not chosen:
        raise DataError(f"{where} must name at least one channel, got {channels!r}. Leave it out for all {info.size}.")
    repeated = sorted({channel for channel in chosen if chosen.count(channel) > 1})
    if repeated:
        raise DataError(f"{where} must name every channel once, got {repeated} twice in {channels!r}. Drop one.")
    return chosen


def _range(text: str, size: int, *, where: str) -> list[int]:
    if text == "all":
        return list(range(size))
    first, colon, last = (part.strip() for part in text.partition(":"))
    try:
        bounds = (int(first or 0), int(last or size))
    except ValueError:
        bounds = (-1, -1)
    if not colon or not 0 <= bounds[0] < bounds[1] <= size:
        raise DataError(
            f"{where} must be 'all', a range within '0:{size}' or a list, got {text!r}. Ranges leave out their end; "
            "names stand in a list, such as [gripper]."
        )
    return list(range(*bounds))


def _index(channel: int | str, info: ColumnInfo, *, where: str) -> int:
    if isinstance(channel, str):
        names = info.names or ()
        if channel not in names:
            raise DataError(f"{where} must be names of the data set, got {channel!r}. {suggestion(channel, names)}")
        return names.index(channel)
    if not 0 <= channel < info.size:
        raise DataError(
            f"{where} must lie in [0, {info.size}), got {channel}. Choose others; a range stands in quotes, '1:6', for "
            "YAML reads 1:6 as 66."
        )
    return channel
