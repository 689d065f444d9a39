"""A data set of any format as the episodes of a robot."""

import hashlib
import sys
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from numpy import ndarray
from rich.console import Console
from rich.progress import track
from torch import Tensor

from vla_kit.data._name import check_name
from vla_kit.data._rate import check_rate
from vla_kit.data._suggestion import suggestion
from vla_kit.data.action_columns import ActionColumns
from vla_kit.data.action_recipe import ActionRecipe
from vla_kit.data.captions.caption_mix import MixedInstructions
from vla_kit.data.episodes import EpisodeInfo
from vla_kit.data.scattered import images_at
from vla_kit.data.source import EpisodeSource
from vla_kit.errors import DataError, SettingError

__all__ = ["RobotReader"]


class RobotReader:
    """Gives the columns and cameras of a source a meaning for a robot; satisfies `EpisodeReader`.

    Nothing is read at construction but metadata, unless `cache_frames`. That decodes every frame of `views` once and
    keeps it in memory (height * width * 3 bytes per frame and view: 20,000 frames of 96x96 take 0.55 GB).

    Args:
        source: The data set as it was recorded.
        embodiment: Name of the robot for prompter and normaliser.
        actions: Pieces of the action, in the order of the robot's channels.
        views: View tag -> camera key, such as `{"front": "observation.images.top"}`, in the order in which the views
            enter the model. Empty where no images are wanted.
        state: Columns that hold the state of the robot, in the order of its channels and as they are stored; none where
            states are not read.
        rate_hz: Frames per second, where the source does not know them or knows them wrongly.
        captions: Captions that some frames are told in place of their sentence, see `CaptionMix`; none where None.
        cache_frames: Decode every frame of `views` now and keep it in memory.

    Raises:
        DataError: If a column, channel or camera does not exist or has another size than is needed.
        SettingError: If there are no `actions`, `state` asks for differences, `rate_hz` is not above 0 or `embodiment`
            is empty.

    Examples:
        >>> from vla_kit.data.memory_source import MemoryEpisode, MemorySource
        >>> states = np.array([[0.0, 5.0], [1.0, 5.0], [3.0, 5.0], [6.0, 5.0]])
        >>> source = MemorySource([MemoryEpisode(columns={"state": states}, instruction="push")], rate_hz=10)
        >>> steps = ActionColumns("state", channels=[0], pseudo=True, representation="delta_step")
        >>> reader = RobotReader(source, embodiment="point", actions=[steps])
        >>> reader.actions(0).flatten(), reader.num_steps
        (tensor([1., 2., 3.]), array([3]))
        >>> chunk = ActionColumns("state", channels=[0], pseudo=True, representation="delta_chunk")
        >>> RobotReader(source, embodiment="point", actions=[chunk]).chunk(0, 1, 8).flatten()
        tensor([2., 5.])
    """

    def __init__(
        self,
        source: EpisodeSource,
        *,
        embodiment: str,
        actions: Sequence[ActionColumns] = (ActionColumns("action"),),
        state: Sequence[ActionColumns] = (),
        views: Mapping[str, str] | None = None,
        rate_hz: float | None = None,
        captions: MixedInstructions | None = None,
        cache_frames: bool = False,
    ) -> None:
        check_name("embodiment", embodiment)
        check_rate(rate_hz)
        self._source = source
        self._embodiment = embodiment
        self._views = dict(views or {})
        self._rate_hz = rate_hz
        self._captions = captions
        for tag, key in self._views.items():
            if key not in source.cameras:
                raise DataError(
                    f"{source.location}: views[{tag!r}] must be a camera of the data set, got {key!r}. "
                    f"{suggestion(key, source.cameras)}"
                )
        self._recipe = ActionRecipe(actions, columns=source.columns, location=source.location)
        for piece in state:
            _check_stored(piece, source.location)
        self._state = ActionRecipe(state, columns=source.columns, location=source.location) if state else None
        self._lengths = source.lengths
        self._cached: list[dict[str, Tensor]] = self._decode_all() if cache_frames and self._views else []

    @property
    def source(self) -> EpisodeSource:
        """The data set as it was recorded."""
        return self._source

    @property
    def recipe(self) -> ActionRecipe:
        """How actions are made of columns, and targets of predicted actions."""
        return self._recipe

    @property
    def views(self) -> dict[str, str]:
        """View tag -> camera key."""
        return dict(self._views)

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self._source.name

    @property
    def embodiment(self) -> str:
        """Name of the robot."""
        return self._embodiment

    @property
    def location(self) -> str:
        """Where the data set lies."""
        return self._source.location

    @property
    def num_episodes(self) -> int:
        """Episodes in the data set."""
        return len(self._lengths)

    @property
    def lengths(self) -> Int[ndarray, " episode"]:
        """Frames of each episode."""
        return self._lengths.copy()

    @property
    def num_steps(self) -> Int[ndarray, " episode"]:
        """Leading frames of each episode that have an action: all, or all but the last of pseudo-actions."""
        steps: ndarray = np.maximum(self._lengths - int(self._recipe.pseudo), 0)
        return steps

    @property
    def action_size(self) -> int:
        """Native action channels."""
        return self._recipe.size

    @property
    def state_size(self) -> int:
        """Native channels of the robot's state; 0 where states are not read."""
        return 0 if self._state is None else self._state.size

    @property
    def rate_hz(self) -> float | None:
        """Frames per second: as given, or as the source says."""
        return self._rate_hz if self._rate_hz is not None else self._source.rate_hz

    @property
    def fingerprint(self) -> str:
        """Short digest of the data set and of how its actions and states are made."""
        made = [self._source.fingerprint, self._recipe.fingerprint]
        made += [] if self._state is None else [self._state.fingerprint]
        return hashlib.sha256(":".join(made).encode()).hexdigest()[:16]

    @property
    def chunk_relative(self) -> bool:
        """Whether an action depends on the frame that its chunk begins at."""
        return self._recipe.chunk_relative

    def episode(self, index: int) -> EpisodeInfo:
        """What the metadata knows of an episode.

        Raises:
            DataError: If there is no such episode.
        """
        return self._source.episode(index)

    def instruction_at(self, index: int, frame: int) -> str:
        """What the robot is told at a frame: the sentence or the caption; empty where the data set has no language."""
        sentence = self._source.instruction_at(index, frame)
        return sentence if self._captions is None else self._captions.choose(index, frame, sentence)

    def actions(self, index: int) -> Float[Tensor, "step size"]:
        """Native actions of a whole episode, float32; deltas from the start of a chunk are from its first frame.

        Raises:
            DataError: If the columns are broken.
        """
        length = self._length(index)
        return self.chunk(index, 0, length) if length else self._none()

    def chunk(self, index: int, frame: int, horizon: int) -> Float[Tensor, "step size"]:
        """Native actions from a frame on, float32.

        Args:
            index: Episode.
            frame: Frame at which the chunk begins.
            horizon: Steps wanted, at least 1.

        Returns:
            `horizon` rows, or as many as the episode still has; never padded.

        Raises:
            DataError: If there is no such frame, or the columns are broken.
            SettingError: If `horizon` is below 1.
        """
        if horizon < 1:
            raise SettingError(f"horizon must be at least 1, got {horizon}. Give the steps of a chunk.")
        self._check_frames(index, [frame])
        steps = min(horizon, self._length(index) - int(self._recipe.pseudo) - frame)
        if steps < 1:
            return self._none()
        return self._recipe.chunk(
            lambda key: self._source.column(index, key),
            frame=frame,
            steps=steps,
            where=f"{self.location}, episode {index}",
        )

    @property
    def partly_known(self) -> bool:
        """Whether numbers of actions may be unknown in some frames; see `known`."""
        return self._recipe.partly_known

    def known(self, index: int, frame: int, horizon: int) -> Bool[Tensor, "step size"]:
        """Which numbers of `chunk` are known; the others are 0 there.

        Args:
            index: Episode.
            frame: Frame at which the chunk begins.
            horizon: Steps wanted, at least 1.

        Raises:
            DataError: If there is no such frame, or a column is broken.
        """
        self._check_frames(index, [frame])
        steps = min(horizon, self._length(index) - int(self._recipe.pseudo) - frame)
        if steps < 1:
            return torch.zeros(0, self.action_size, dtype=torch.bool)
        return self._recipe.known(lambda key: self._source.column(index, key), frame=frame, steps=steps)

    def states(self, index: int, frame: int, steps: int) -> Float[Tensor, "step state_size"]:
        """Native states from a frame on, float32.

        Args:
            index: Episode.
            frame: First frame.
            steps: Frames wanted, at least 1.

        Returns:
            `steps` rows, or as many as the episode still has; without channels where no column is `state`.

        Raises:
            DataError: If there is no such frame, or the columns are broken.
        """
        self._check_frames(index, [frame])
        steps = min(steps, self._length(index) - frame)
        if self._state is None:
            return torch.zeros(steps, 0)
        return self._state.chunk(
            lambda key: self._source.column(index, key),
            frame=frame,
            steps=steps,
            where=f"{self.location}, episode {index}",
        )

    def frames(self, index: int, indices: Sequence[int]) -> dict[str, UInt8[Tensor, "image 3 height image_width"]]:
        """RGB frames of an episode.

        Args:
            index: Episode.
            indices: Frames of the episode, in any order, repeats allowed.

        Returns:
            View tag -> frames in the order of `indices`.

        Raises:
            DataError: If a frame is missing or cannot be decoded.
        """
        self._check_frames(index, indices)
        if self._cached:
            wanted = [int(frame) for frame in indices]
            return {tag: pixels[wanted] for tag, pixels in self._cached[index].items()}
        return {tag: self._source.images(index, key, indices) for tag, key in self._views.items()}

    def frames_at(self, places: Sequence[tuple[int, int]]) -> list[dict[str, UInt8[Tensor, "3 height image_width"]]]:
        """RGB frames of several episodes, which a source that can decodes together.

        Args:
            places: Episode and frame of each.

        Returns:
            View tag -> frame, in the order of `places`.

        Raises:
            DataError: If a frame is missing or cannot be decoded.
        """
        for index, frame in places:
            self._check_frames(index, [frame])
        if self._cached:
            return [{tag: pixels[frame] for tag, pixels in self._cached[index].items()} for index, frame in places]
        views = {tag: images_at(self._source, key, places) for tag, key in self._views.items()}
        return [{tag: images[place] for tag, images in views.items()} for place in range(len(places))]

    def _length(self, index: int) -> int:
        if not 0 <= index < self.num_episodes:
            raise DataError(
                f"index must be an episode of {self.location} in [0, {self.num_episodes}), got {index}. Choose one "
                "there."
            )
        return int(self._lengths[index])

    def _check_frames(self, index: int, frames: Sequence[int]) -> None:
        length = self._length(index)
        outside = [int(frame) for frame in frames if not 0 <= frame < length]
        if outside:
            raise DataError(
                f"frame must lie in [0, {length}) in episode {index} of {self.location}, got {outside[0]}. "
                "Choose one there."
            )

    def _none(self) -> Tensor:
        return torch.zeros(0, self.action_size)

    def _decode_all(self) -> list[dict[str, Tensor]]:
        shown = Console(stderr=True)
        numbers = track(
            range(self.num_episodes), f"decoding {self.name}", console=shown, disable=not sys.stderr.isatty()
        )
        return [
            {tag: self._source.images(index, key, range(int(self._lengths[index]))) for tag, key in self._views.items()}
            for index in numbers
        ]


def _check_stored(piece: ActionColumns, location: str) -> None:
    asked = piece.representation if piece.representation != "absolute" else "pseudo" if piece.pseudo else None
    if asked is not None:
        raise SettingError(
            f"{location}: state must be taken as it is stored, got {asked} of {piece.column!r}. Leave {asked} out: a "
            "state is what the robot measures at a frame."
        )
