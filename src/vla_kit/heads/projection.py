"""What a head needs of a part that turns actions into tokens and tokens into velocities."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vla_kit.errors import EmbodimentError

__all__ = ["ActionProjection", "robot_rows"]


@runtime_checkable
class ActionProjection(Protocol):
    """Actions of any robot in and out of tokens, an `nn.Module`: `PerEmbodimentProjection`, `ConcatenatedProjection`.

    A head asks `address` once per context and hands the result to `encode` and `decode`, so names are looked up outside
    of the solver's steps. Padding is 0 when it comes in; what `decode` answers there is discarded.
    """

    def address(self, embodiments: Sequence[str], *, device: torch.device) -> Int[Tensor, "batch ..."]:
        """Where the robot of each sample is found; its meaning is the projection's own."""
        ...

    def encode(
        self, actions: Float[Tensor, "batch_draw horizon channel"], address: Int[Tensor, "batch ..."]
    ) -> Float[Tensor, "batch_draw horizon width"]:
        """Tokens of noisy actions; the first axis is a whole multiple of the address's, sample-major."""
        ...

    def decode(
        self, tokens: Float[Tensor, "batch_draw horizon width"], address: Int[Tensor, "batch ..."]
    ) -> Float[Tensor, "batch_draw horizon channel"]:
        """Velocities of tokens."""
        ...

    def reset_parameters(self) -> None:
        """Draw all weights anew; the last layer of `decode` is 0, so that a new head answers 0."""
        ...


def robot_rows(embodiments: Sequence[str], known: Sequence[str]) -> list[int]:
    """Look up the place of each robot in a list.

    Args:
        embodiments: Robot of each sample.
        known: Robots of a projection.

    Returns:
        Index into `known` for each sample.

    Raises:
        EmbodimentError: If a robot is not known.

    Examples:
        >>> robot_rows(["crane", "arm", "crane"], ["arm", "crane"])
        [1, 0, 1]
    """
    places = {name: place for place, name in enumerate(known)}
    unknown = sorted(set(embodiments) - set(places))
    if unknown:
        raise EmbodimentError(
            f"context.embodiments must be among the projection's {sorted(places)}, got {unknown}. "
            "Add the robots to the projection of the head and train it with them."
        )
    return [places[name] for name in embodiments]
