"""Targets, steps from the previous target, displacements from the start of a chunk; and the way back."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from vla_kit.actions.rotations import ROTATION_SIZES, RotationForm, from_matrix, to_matrix
from vla_kit.errors import SettingError, ShapeError

__all__ = ["ActionRepresentation", "DeltaFrame", "Representation"]

Representation = Literal["absolute", "delta_step", "delta_chunk"]
"""What a number of an action means.

- `absolute`: the target.
- `delta_step`: from the previous target to this one; the first step of a chunk from the start.
- `delta_chunk`: from the start of the chunk to the target, in every step (Qwen-VLA's second version).
"""

DeltaFrame = Literal["world", "body"]
"""Axes in which the difference of two poses is written: those of the world, or those of the earlier pose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionRepresentation:
    """Turns the targets of a chunk into what a model learns, and what it predicts into targets.

    Without `rotation` all channels are a vector and differences are subtractions. With it the last channels are a
    rotation; three channels before it are a position, and together they are a pose. With `p`, `R` the target and
    `p0`, `R0` what it is measured from:

    - `world` (the default): `p - p0` and `R R0^T`, both along the axes of the world;
    - `body`: `R0^T (p - p0)` and `R0^T R`, the SE(3) displacement that the moving body sees.

    Arithmetic is float64 inside, so `decode(encode(targets))` returns float32 targets to a few units in the last
    place, apart from the several ways to write one rotation (see `RotationForm`). A padded step, whatever it holds,
    changes no step before it.

    Args:
        kind: What the numbers shall mean.
        rotation: Form of the rotation in the targets; None for plain vectors, joints, grippers.
        output: Form of the rotation in what the model learns, also for `absolute`; as in the targets where None.
        frame: Axes of a difference of poses.

    Raises:
        SettingError: If a field is not among its choices, or `output` or `body` is given without `rotation`.

    Examples:
        >>> targets, start = torch.tensor([[1.0], [3.0], [6.0]]), torch.tensor([0.5])
        >>> steps, chunk = ActionRepresentation(kind="delta_step"), ActionRepresentation(kind="delta_chunk")
        >>> steps.encode(targets, start).flatten(), chunk.encode(targets, start).flatten()
        (tensor([0.5000, 2.0000, 3.0000]), tensor([0.5000, 2.5000, 5.5000]))
        >>> steps.decode(steps.encode(targets, start), start).flatten()
        tensor([1., 3., 6.])

    Source:
        Qwen-VLA, arXiv 2605.30280, second version, section 5.2.4: end-effector actions are displacements relative to
        the first frame of each chunk. The paper does not name the axes.
    """

    kind: Representation = "absolute"
    rotation: RotationForm | None = None
    output: RotationForm | None = None
    frame: DeltaFrame = "world"

    def __post_init__(self) -> None:
        for argument, value, choices in (
            ("kind", self.kind, get_args(Representation)),
            ("rotation", self.rotation, (None, *ROTATION_SIZES)),
            ("output", self.output, (None, *ROTATION_SIZES)),
            ("frame", self.frame, get_args(DeltaFrame)),
        ):
            if value not in choices:
                raise SettingError(f"{argument} must be one of {choices}, got {value!r}. Choose one.")
        if self.rotation is None and self.output is not None:
            raise SettingError(
                f"output must be left out without rotation, got {self.output!r}. Name the form of the stored rotation."
            )
        if self.frame == "body" and (self.rotation is None or self.kind == "absolute"):
            raise SettingError(
                "frame must be 'world' unless poses or rotations are subtracted, got 'body'. Name the form of the "
                "rotation and a delta, or leave frame out."
            )

    def size(self, target_size: int) -> int:
        """Channels that the model learns for `target_size` channels of the targets.

        Raises:
            ShapeError: If the targets can be neither a rotation nor a pose in the form `rotation`.
        """
        if self.rotation is None:
            return target_size
        stored = ROTATION_SIZES[self.rotation]
        if target_size not in (stored, stored + 3):
            raise ShapeError(
                f"targets must have {stored} channels as a rotation, or {stored + 3} as a pose, in the form "
                f"{self.rotation}, got {target_size}. Choose the channels of the rotation, with the position before it."
            )
        return target_size - stored + ROTATION_SIZES[self.output or self.rotation]

    def target_size(self, size: int) -> int:
        """Inverse of `size`."""
        if self.rotation is None:
            return size
        return size - ROTATION_SIZES[self.output or self.rotation] + ROTATION_SIZES[self.rotation]

    def encode(
        self, targets: Float[Tensor, "step target_size"], start: Float[Tensor, " target_size"] | None = None
    ) -> Float[Tensor, "step size"]:
        """What a model learns of a chunk of targets.

        Args:
            targets: Targets in the order of time.
            start: What the first step is measured from, in the form of the targets: the state at the chunk's first
                frame, or the target before it. Needed by deltas.

        Returns:
            One row per step, in the dtype of `targets`.

        Raises:
            SettingError: If a delta is given no `start`.
            ShapeError: If sizes do not fit each other or the form of the rotation.
        """
        self.size(targets.shape[-1])  # raises where the channels cannot be a rotation
        _check_chunk(targets, targets.shape[-1], start)
        if self._as_stored:
            return targets.clone()
        exact = targets.double()
        if self.kind != "absolute":
            exact = torch.cat([self._start(start).to(exact)[None], exact])
        if self.rotation is None:
            return (exact[1:] - self._before(exact)).to(targets.dtype)
        cut = targets.shape[-1] - ROTATION_SIZES[self.rotation]
        place, turn = exact[:, :cut], to_matrix(exact[:, cut:], self.rotation)
        if self.kind != "absolute":
            turn_before = self._before(turn)
            place, turn = place[1:] - self._before(place), turn[1:]
            if self.frame == "world":
                turn = turn @ turn_before.mT
            else:
                turn = turn_before.mT @ turn
                place = (turn_before.mT @ place[..., None])[..., 0] if cut else place
        return torch.cat([place, from_matrix(turn, self.output or self.rotation)], dim=-1).to(targets.dtype)

    def decode(
        self, chunk: Float[Tensor, "step size"], start: Float[Tensor, " target_size"] | None = None
    ) -> Float[Tensor, "step target_size"]:
        """Inverse of `encode`: targets of what a model predicted, given where the chunk starts.

        Predicted rotations need not be exact: see `to_matrix`.

        Args:
            chunk: One row per step.
            start: As in `encode`; at deployment the state when the chunk was predicted.

        Returns:
            Targets in the dtype of `chunk`.

        Raises:
            SettingError: If a delta is given no `start`.
            ShapeError: If sizes do not fit each other or the form of the rotation.
        """
        target_size = self.target_size(chunk.shape[-1])
        self.size(target_size)  # raises where the channels cannot be a rotation
        _check_chunk(chunk, target_size, start)
        if self._as_stored:
            return chunk.clone()
        exact = chunk.double()
        if self.rotation is None:
            moved = exact.cumsum(dim=0) if self.kind == "delta_step" else exact
            return (moved + self._start(start).to(moved)).to(chunk.dtype)
        output = self.output or self.rotation
        cut = chunk.shape[-1] - ROTATION_SIZES[output]
        place, turn = exact[:, :cut], to_matrix(exact[:, cut:], output)
        if self.kind != "absolute":
            first = self._start(start).to(exact)
            place, turn = self._moved(place, turn, first[:cut], to_matrix(first[cut:], self.rotation))
        return torch.cat([place, from_matrix(turn, self.rotation)], dim=-1).to(chunk.dtype)

    def _moved(self, place: Tensor, turn: Tensor, place_before: Tensor, turn_before: Tensor) -> tuple[Tensor, Tensor]:
        """Poses after displacements, of each from the one before it or of all from the start."""
        places, turns = [], []
        for shift, rotation in zip(place, turn, strict=True):
            if self.frame == "world":
                moved, turned = place_before + shift, rotation @ turn_before
            else:
                moved, turned = place_before + (turn_before @ shift if len(shift) else shift), turn_before @ rotation
            places.append(moved)
            turns.append(turned)
            if self.kind == "delta_step":
                place_before, turn_before = moved, turned
        return (torch.stack(places), torch.stack(turns)) if places else (place, turn)

    def _before(self, rows: Tensor) -> Tensor:
        """What each row but the first is measured from: the first, or the one before it."""
        return rows[:1] if self.kind == "delta_chunk" else rows[:-1]

    def _start(self, start: Tensor | None) -> Tensor:
        if start is None:
            raise SettingError(f"start must be given for {self.kind}, got None. Give the state where the chunk starts.")
        return start

    @property
    def _as_stored(self) -> bool:
        return self.kind == "absolute" and self.output in (None, self.rotation)


def _check_chunk(chunk: Tensor, target_size: int, start: Tensor | None) -> None:
    if chunk.ndim != 2:
        raise ShapeError(f"chunk must have the shape (step, size), got {tuple(chunk.shape)}. Give one chunk.")
    if start is not None and tuple(start.shape) != (target_size,):
        raise ShapeError(
            f"start must have the shape of one target ({target_size},), got {tuple(start.shape)}. "
            "Give the same channels as in the targets."
        )
