"""One training example: what was seen, what was said, what the robot then did."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from vla_kit.data._name import check_name
from vla_kit.data._rate import check_rate
from vla_kit.errors import DataError, DtypeError, SettingError, ShapeError

__all__ = ["Sample"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One observation with the native actions that follow it.

    Nothing is normalised and nothing is padded to a common width here: statistics belong to the model, width to the
    batch. A step past the end of the episode is `valid = False`; what its action holds means nothing.

    Args:
        embodiment: Name of the robot, a key of the prompter and of the normaliser.
        instruction: What the robot was told, at this frame.
        views: View tag -> RGB image, uint8 in [0, 255], or the frames of a history, oldest first. Empty for text alone
            (T2A).
        actions: Native actions from this frame on, in the units of the embodiment's action space.
        valid: True where a step lies within the episode.
        dataset: Name of the data set, for mixtures and logs.
        episode: Index of the episode in the data set.
        frame: Index of the frame in the episode.
        state: Native state of the robot at this frame; None where nobody asked for it.
        frame_rate_hz: Frames per second of a history; None without one.
        known: True where a number of `actions` is known, such as the channels of a hand in sight; None where all are.

    Raises:
        ShapeError: If `actions` is not two-dimensional, `valid` has another length or `known` another shape, a view is
            neither `(3, h, w)` nor `(frame, 3, h, w)`, or `state` is not one-dimensional or empty.
        DtypeError: If `actions` or `state` is not floating, `valid` or `known` not bool, or an image not uint8.
        DataError: If an entry of `state`, or of `actions` that lies within the episode and is known, is NaN or
            infinite.
        SettingError: If `embodiment` or `dataset` is empty, `episode` or `frame` negative, or `frame_rate_hz` not above
            0.

    Examples:
        >>> sample = Sample(embodiment="arm", instruction="push the button", views={}, actions=torch.zeros(2, 4),
        ...     valid=torch.tensor([True, False]), dataset="demo", episode=0, frame=7)
        >>> sample.size, sample.num_steps
        (4, 2)
    """

    embodiment: str
    instruction: str
    views: Mapping[str, UInt8[Tensor, "*frame 3 height image_width"]]
    actions: Float[Tensor, "step size"]
    valid: Bool[Tensor, " step"]
    dataset: str
    episode: int
    frame: int
    state: Float[Tensor, " state_size"] | None = None
    frame_rate_hz: float | None = None
    known: Bool[Tensor, "step size"] | None = None

    def __post_init__(self) -> None:
        check_name("embodiment", self.embodiment)
        check_name("dataset", self.dataset)
        check_rate(self.frame_rate_hz, "frame_rate_hz")
        for name, place in (("episode", self.episode), ("frame", self.frame)):
            if place < 0:
                raise SettingError(f"{name} must be at least 0, got {place}. Count from 0.")
        if self.actions.ndim != 2:
            raise ShapeError(
                f"actions must have the shape (step, size), got {tuple(self.actions.shape)}. "
                "Give one row per step, in native units."
            )
        if not self.actions.is_floating_point():
            raise DtypeError(f"actions must be floating point, got {self.actions.dtype}. Convert with .float().")
        if tuple(self.valid.shape) != (self.actions.shape[0],):
            raise ShapeError(
                f"valid must have one entry per step of actions ({self.actions.shape[0]},), "
                f"got {tuple(self.valid.shape)}. Mark each step as inside (True) or past the end (False)."
            )
        if self.valid.dtype != torch.bool:
            raise DtypeError(f"valid must be bool, got {self.valid.dtype}. Convert with .bool().")
        if self.known is not None and self.known.shape != self.actions.shape:
            raise ShapeError(
                f"known must have the shape of actions {tuple(self.actions.shape)}, got {tuple(self.known.shape)}. "
                "Mark every number as known (True) or not."
            )
        if self.known is not None and self.known.dtype != torch.bool:
            raise DtypeError(f"known must be bool, got {self.known.dtype}. Convert with .bool().")
        if not bool((self.actions.isfinite() | ~self.real).all()):
            raise DataError(
                f"actions must be finite where they are real, got NaN or infinity in {self._place}. Drop the episode, "
                "or say in valid or known which numbers mean nothing."
            )
        for tag, image in self.views.items():
            if image.ndim not in (3, 4) or image.shape[-3] != 3 or len(image) == 0:
                raise ShapeError(
                    f"views[{tag!r}] must have the shape (3, height, image_width) or (frame, 3, height, image_width), "
                    f"got {tuple(image.shape)}. Put the colour axis before rows and columns, three colours."
                )
            if image.dtype != torch.uint8:
                raise DtypeError(f"views[{tag!r}] must be uint8 in [0, 255], got {image.dtype}. Keep raw pixels.")
        if self.state is not None:
            self._check_state(self.state)

    @property
    def size(self) -> int:
        """Native action channels of the embodiment."""
        return int(self.actions.shape[1])

    @property
    def num_steps(self) -> int:
        """Steps of the chunk, valid or not."""
        return int(self.actions.shape[0])

    @property
    def real(self) -> Bool[Tensor, "step size"]:
        """True where a number of `actions` lies within the episode and is known."""
        within = self.valid[:, None].expand(-1, self.size)
        return within if self.known is None else within & self.known

    @property
    def _place(self) -> str:
        return f"frame {self.frame} of episode {self.episode} of {self.dataset}"

    def _check_state(self, state: Tensor) -> None:
        if state.ndim != 1 or not len(state):
            raise ShapeError(
                f"state must have the shape (state_size,), got {tuple(state.shape)}. Give that of the frame."
            )
        if not state.is_floating_point():
            raise DtypeError(f"state must be floating point, got {state.dtype}. Convert with .float().")
        if not bool(state.isfinite().all()):
            raise DataError(f"state must be finite, got {state.tolist()} in {self._place}. Drop the episode.")
