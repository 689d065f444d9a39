"""How a robot's actions are made of the columns of a data set, and what predicted actions mean as targets."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from vla_kit.actions import ROTATION_SIZES, ActionRepresentation, rotation_defect
from vla_kit.data._suggestion import suggestion
from vla_kit.data.action_columns import ActionColumns, channel_indices
from vla_kit.data.source import ColumnInfo
from vla_kit.errors import DataError, SettingError, ShapeError

__all__ = ["ActionRecipe"]

_DEFECT: Final = 1e-2  # of a stored rotation; rounding to float16 stays below


class ActionRecipe:
    """Pieces of an action bound to the columns of one data set: every channel is found, every size is known.

    It is small, holds no data and survives pickling, so a robot can carry it along to turn predictions into targets.

    Args:
        pieces: Pieces of the action, in the order of the robot's channels.
        columns: Columns of the data set by key.
        location: Where the data set lies, for messages.

    Raises:
        SettingError: If there is no piece.
        DataError: If a column or channel does not exist, a rotation has another size, or a reference has another number
            of channels than the targets.

    Examples:
        >>> recipe = ActionRecipe(
        ...     [ActionColumns("state", channels="0:2", pseudo=True, representation="delta_chunk")],
        ...     columns={"state": ColumnInfo(size=3)},
        ...     location="set",
        ... )
        >>> recipe.size, recipe.chunk_relative, recipe.pseudo
        (2, True, True)
        >>> recipe.targets(torch.tensor([[0.5, 0.0], [1.0, 0.0]]), {"state": torch.tensor([2.0, 4.0, 9.0])})
        tensor([[2.5000, 4.0000],
                [3.0000, 4.0000]])
    """

    def __init__(self, pieces: Sequence[ActionColumns], *, columns: Mapping[str, ColumnInfo], location: str) -> None:
        if not pieces:
            raise SettingError(
                f"actions must hold at least one ActionColumns, got none for {location}. "
                f"{suggestion('action', columns)}"
            )
        self.pieces = tuple(pieces)
        self.location = location
        self._bound = [_bind(piece, columns, location) for piece in self.pieces]

    @property
    def size(self) -> int:
        """Native action channels."""
        return sum(piece.size for piece in self._bound)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Native action channels of each piece."""
        return tuple(piece.size for piece in self._bound)

    @property
    def chunk_relative(self) -> bool:
        """Whether an action depends on the frame that its chunk begins at."""
        return any(piece.representation == "delta_chunk" for piece in self.pieces)

    @property
    def pseudo(self) -> bool:
        """Whether actions are made of the next frame's state, which the last frame lacks."""
        return any(piece.pseudo for piece in self.pieces)

    @property
    def partly_known(self) -> bool:
        """Whether numbers may be unknown in some frames."""
        return any(piece.seen is not None for piece in self.pieces)

    @cached_property
    def fingerprint(self) -> str:
        """Short digest of columns, channels and meanings."""
        text = json.dumps([piece.description for piece in self._bound], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def chunk(
        self, read: Callable[[str], ndarray], *, frame: int, steps: int, where: str
    ) -> Float[Tensor, "step size"]:
        """Native actions of a chunk.

        Args:
            read: Gives a column of the episode by key, `[frame, size]`.
            frame: Frame at which the chunk begins.
            steps: Steps of the chunk, all of which have an action.
            where: Name of the episode, for messages.

        Returns:
            Actions, float32.

        Raises:
            DataError: If a column that should hold rotations does not.
        """
        kept: dict[str, ndarray] = {}

        def rows(key: str, channels: Sequence[int], first: int, last: int) -> Tensor:
            if key not in kept:
                kept[key] = read(key)
            return torch.from_numpy(kept[key][first:last, channels].astype(np.float64))

        parts = []
        for piece in self._bound:
            shift = int(piece.spec.pseudo)
            targets = rows(piece.spec.column, piece.channels, frame + shift, frame + shift + steps)
            start = None
            if piece.spec.representation == "delta_step" and frame > 0:
                start = rows(piece.spec.column, piece.channels, frame + shift - 1, frame + shift)[0]
            elif piece.spec.representation != "absolute":
                start = rows(piece.reference, piece.reference_channels, frame, frame + 1)[0]
            known = piece.known(read, frame=frame, steps=steps)
            piece.check_rotations(targets, known, where=where, frame=frame + shift)
            actions = piece.maths.encode(targets, start).float()
            parts.append(torch.where(known[:, None], actions, 0))
        return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]

    def known(self, read: Callable[[str], ndarray], *, frame: int, steps: int) -> Bool[Tensor, "step size"]:
        """Which numbers of a chunk are known; the others are 0 in `chunk`.

        Args:
            read: As in `chunk`.
            frame: As in `chunk`.
            steps: As in `chunk`.
        """
        parts = [piece.known(read, frame=frame, steps=steps)[:, None].expand(-1, piece.size) for piece in self._bound]
        return torch.cat(parts, dim=1)

    def targets(
        self, chunk: Float[Tensor, "step size"], start: Mapping[str, Float[Tensor, " _column"]] | None = None
    ) -> Float[Tensor, "step target_size"]:
        """Inverse at deployment: the targets that predicted native actions mean, in the numbers of the columns.

        Args:
            chunk: Predicted native actions.
            start: Key -> a whole row of that column where the chunk starts: for every `reference` the robot's state.
                `delta_step` takes the last target that was sent instead, under the key of its own `column`, if it is
                there.

        Returns:
            Targets, the pieces in order, each with the channels that it takes of its column.

        Raises:
            ShapeError: If `chunk` has not the robot's channels, or a row not the column's.
            SettingError: If a state is missing in `start`.
        """
        if chunk.ndim != 2 or chunk.shape[1] != self.size:
            raise ShapeError(
                f"chunk must have the shape (step, {self.size}), got {tuple(chunk.shape)}. Give native actions of "
                f"{self.location}."
            )
        parts = chunk.split(self.sizes, dim=1)
        return torch.cat(
            [
                piece.maths.decode(part, piece.start(start or {}))
                for piece, part in zip(self._bound, parts, strict=True)
            ],
            dim=1,
        )

    def column_of(self, channel: int) -> tuple[ActionColumns, str]:
        """The piece that an action channel belongs to, and where it comes from, for messages.

        Examples:
            >>> recipe = ActionRecipe([ActionColumns("action")], columns={"action": ColumnInfo(size=2)}, location="set")
            >>> recipe.column_of(1)[1]
            "'action' (channel 1)"
        """
        for piece in self._bound:
            if channel < piece.size:
                known = piece.spec.rotation is None
                place = (
                    f"channel {piece.channels[channel]}" if known else f"number {channel} of a {piece.spec.rotation}"
                )
                return piece.spec, f"{piece.spec.column!r} ({place})"
            channel -= piece.size
        raise IndexError(channel)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """`ActionColumns` with everything found."""

    spec: ActionColumns
    maths: ActionRepresentation
    channels: list[int]
    column_size: int
    reference: str
    reference_channels: list[int]
    reference_size: int
    size: int

    @property
    def description(self) -> dict[str, object]:
        reads_reference = self.spec.representation != "absolute"
        partly = {} if self.spec.seen is None else {"seen": self.spec.seen}
        return partly | {
            "column": self.spec.column,
            "channels": self.channels,
            "representation": self.spec.representation,
            "reference": [self.reference, self.reference_channels] if reads_reference else None,
            "rotation": self.spec.rotation,
            "output": self.spec.output,
            "frame": self.spec.frame,
            "pseudo": self.spec.pseudo,
        }

    def known(self, read: Callable[[str], ndarray], *, frame: int, steps: int) -> Tensor:
        """Which steps of a chunk are known."""
        if self.spec.seen is None:
            return torch.ones(steps, dtype=torch.bool)
        seen = torch.from_numpy(read(self.spec.seen)[:, 0] != 0)
        first = frame + int(self.spec.pseudo)
        known = seen[first : first + steps]
        if self.spec.reference not in (None, self.spec.column):
            return known
        if self.spec.representation == "delta_chunk":
            return known & seen[frame]
        if self.spec.representation == "delta_step":
            return known & torch.cat([seen[max(first - 1, 0)][None], known[:-1]])
        return known

    def start(self, rows: Mapping[str, Tensor]) -> Tensor | None:
        if self.spec.representation == "absolute":
            return None
        key, channels, size = self.reference, self.reference_channels, self.reference_size
        if self.spec.representation == "delta_step" and self.spec.column in rows:
            key, channels, size = self.spec.column, self.channels, self.column_size
        if key not in rows:
            raise SettingError(
                f"start must hold the row of {key!r} that {self.spec.representation} of {self.spec.column!r} is "
                f"measured from, got {sorted(rows)}. Give the robot's state where the chunk starts."
            )
        if tuple(rows[key].shape) != (size,):
            raise ShapeError(
                f"start[{key!r}] must have the shape of the column ({size},), got {tuple(rows[key].shape)}. "
                "Give the whole row."
            )
        return rows[key][channels]

    def check_rotations(self, targets: Tensor, known: Tensor, *, where: str, frame: int) -> None:
        form = self.spec.rotation
        if form is None:
            return
        count = ROTATION_SIZES[form]
        defect = torch.where(known, rotation_defect(targets[:, -count:], form), 0)
        if bool((defect > _DEFECT).any()):
            step = int(defect.argmax())
            raise DataError(
                f"{where}: {self.spec.column!r} must hold a rotation as {form} in its channels "
                f"{self.channels[-count:]}, got {[round(x, 4) for x in targets[step, -count:].tolist()]} in frame "
                f"{frame + step}. Name its true form, or choose other channels."
            )


def _bind(piece: ActionColumns, columns: Mapping[str, ColumnInfo], location: str) -> _Piece:
    reference = piece.reference or piece.column
    for argument, key in (("column", piece.column), ("reference", reference), ("seen", piece.seen or piece.column)):
        if key not in columns:
            raise DataError(
                f"{location}: {argument} must be a column of the data set, got {key!r}. {suggestion(key, columns)}"
            )
    if piece.seen is not None and columns[piece.seen].size != 1:
        raise DataError(
            f"{location}: seen must be a column of one number, got {piece.seen!r} of {columns[piece.seen].size}. "
            "Choose the one that says where the column is known."
        )
    channels = channel_indices(piece.channels, piece.column, columns[piece.column], location=location)
    wanted = piece.channels if piece.reference_channels is None else piece.reference_channels
    reference_channels = channel_indices(wanted, reference, columns[reference], location=location)
    if piece.representation != "absolute" and len(reference_channels) != len(channels):
        raise DataError(
            f"{location}: reference_channels of {reference!r} must be as many as the channels of {piece.column!r} "
            f"({len(channels)}), got {len(reference_channels)}. Choose the channels that are the same quantities."
        )
    try:
        size = piece.maths.size(len(channels))
    except ShapeError as error:
        raise DataError(f"{location}: {piece.column!r}: {error}") from error
    return _Piece(
        spec=piece,
        maths=piece.maths,
        channels=channels,
        column_size=columns[piece.column].size,
        reference=reference,
        reference_channels=reference_channels,
        reference_size=columns[reference].size,
        size=size,
    )
