"""One episode as the cleaning rules see it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from vla_kit.data.cleaning.column_roles import ColumnRoles
from vla_kit.data.source import EpisodeSource
from vla_kit.errors import SettingError

__all__ = ["ExaminedEpisode"]


class ExaminedEpisode:
    """One episode of a source, with the roles of its columns. What several rules ask for is read once.

    Args:
        source: Data set.
        index: Episode.
        roles: Which columns are actions and which are the state.

    Raises:
        SettingError: If there is no such episode.

    Examples:
        >>> from vla_kit.data.memory_source import MemoryEpisode, MemorySource
        >>> source = MemorySource([MemoryEpisode(columns={"action": np.eye(2), "state": np.zeros((2, 3))})])
        >>> episode = ExaminedEpisode(source, 0, roles=ColumnRoles(action=("action",), state=("state",)))
        >>> len(episode), episode.actions.shape, episode.state.shape
        (2, (2, 2), (2, 3))
    """

    def __init__(self, source: EpisodeSource, index: int, *, roles: ColumnRoles) -> None:
        if not 0 <= index < len(source.lengths):
            raise SettingError(
                f"index must lie in [0, {len(source.lengths)}) of {source.location}, got {index}. Choose one there."
            )
        self._source, self._index, self._roles = source, index, roles
        self._length = int(source.lengths[index])
        self._numbers: dict[str, ndarray] = {}
        self._pictures: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def __len__(self) -> int:
        return self._length

    @property
    def index(self) -> int:
        """Number of the episode in its data set."""
        return self._index

    @property
    def columns(self) -> tuple[str, ...]:
        """Keys of the columns that have a role."""
        return (*self._roles.action, *self._roles.state)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Keys of the cameras that are looked at."""
        return self._roles.cameras

    @property
    def action_names(self) -> tuple[str, ...]:
        """Name of each channel of `actions`; an empty one where the data set has none."""
        names: list[str] = []
        for key in self._roles.action:
            column = self._source.columns[key]
            names += column.names if column.names is not None else [""] * column.size
        return tuple(names)

    @property
    def actions(self) -> Float[ndarray, "step size"]:
        """Actions as stored, float64, the columns side by side.

        Raises:
            DataError: If a column cannot be read or holds NaN.
        """
        return np.concatenate([self.column(key) for key in self._roles.action], axis=1)

    @property
    def state(self) -> Float[ndarray, "step size"] | None:
        """Proprioception as stored, float64, the columns side by side; None where the data set has none.

        Raises:
            DataError: If a column cannot be read or holds NaN.
        """
        if not self._roles.state:
            return None
        return np.concatenate([self.column(key) for key in self._roles.state], axis=1)

    def column(self, key: str) -> Float[ndarray, "step size"]:
        """Any column of the source, float64.

        Raises:
            DataError: If it cannot be read or holds NaN.
        """
        if key not in self._numbers:
            self._numbers[key] = self._source.column(self._index, key).astype(np.float64)
        return self._numbers[key]

    def spread(self, count: int) -> tuple[int, ...]:
        """At most `count` frames spread evenly over the episode, the first and the last among them."""
        if not len(self):
            return ()
        return tuple(np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int)).tolist())

    def images(
        self, camera: str, indices: Sequence[int], *, keep: bool = False
    ) -> UInt8[Tensor, "image 3 height image_width"]:
        """Frames of a camera.

        Args:
            camera: Key of the camera.
            indices: Frames.
            keep: Whether another rule is likely to ask for the same frames.

        Raises:
            DataError: If a frame is missing or cannot be decoded.
        """
        key = (camera, tuple(indices))
        if key in self._pictures:
            return self._pictures[key]
        pictures = self._source.images(self._index, camera, list(indices))
        if keep:
            self._pictures[key] = pictures
        return pictures

    def instruction_at(self, frame: int) -> str:
        """What the robot was told at a frame."""
        return self._source.instruction_at(self._index, frame)
