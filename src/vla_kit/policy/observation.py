"""What a robot gives a policy: names, words, pictures and perhaps its state, as its driver has them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vla_kit.errors import DtypeError, ShapeError

__all__ = ["PolicyObservation", "image_tensor", "state_tensor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyObservation:
    """One robot at one instant.

    Args:
        embodiment: Name of the robot, a key of the prompter and of the normaliser.
        instruction: What to do, as a person says it; the policy writes the prompt around it.
        views: View tag -> RGB picture, uint8 in [0, 255], colour last or first, in the order in which the views enter
            the sequence. Several frames of a view are stacked, oldest first, see `FrameHistory`. Absent cameras are
            left out.
        state: What the robot measures of itself, native, in the order of its `state_space`. Policies that were trained
            without states do not look at it.
        frame_rate_hz: Frames per second of views with several frames.

    Examples:
        >>> picture = np.zeros((96, 96, 3), dtype=np.uint8)
        >>> PolicyObservation(embodiment="arm", instruction="push", views={"cam_high": picture}).instruction
        'push'
    """

    embodiment: str
    instruction: str
    views: Mapping[str, np.ndarray | Tensor]
    state: Float[np.ndarray, " state_size"] | Float[Tensor, " state_size"] | None = None
    frame_rate_hz: float | None = None


def image_tensor(image: np.ndarray | Tensor, *, tag: str) -> UInt8[Tensor, "*frame 3 height image_width"]:
    """Bring a picture, or the frames of a history, to colour first.

    Args:
        image: RGB, uint8 in [0, 255], shape (height, image_width, 3) or (3, height, image_width), frames before that.
            Where both readings are possible, an array counts as colour last and a tensor as colour first, as their
            libraries have it.
        tag: Name of the view, for the message.

    Returns:
        The picture or the frames as a tensor; it may share memory with `image`.

    Raises:
        ShapeError: If no end of a picture's shape is 3, or there is no frame.
        DtypeError: If the picture is not uint8.

    Examples:
        >>> image_tensor(np.zeros((4, 6, 3), dtype=np.uint8), tag="cam_high").shape
        torch.Size([3, 4, 6])
    """
    tensor = image if isinstance(image, Tensor) else torch.from_numpy(np.ascontiguousarray(image))
    if tensor.dtype != torch.uint8:
        raise DtypeError(f"views[{tag!r}] must be uint8 in [0, 255], got {tensor.dtype}. Keep raw pixels.")
    if tensor.ndim not in (3, 4) or 3 not in (tensor.shape[-3], tensor.shape[-1]) or len(tensor) == 0:
        raise ShapeError(
            f"views[{tag!r}] must have the shape (height, image_width, 3) or (3, height, image_width), or frames of "
            f"it, got {tuple(tensor.shape)}. Give one RGB picture per view, or several frames of it."
        )
    colour_last = tensor.shape[-1] == 3 and (tensor.shape[-3] != 3 or not isinstance(image, Tensor))
    return tensor.movedim(-1, -3).contiguous() if colour_last else tensor


def state_tensor(state: np.ndarray | Tensor | None) -> Float[Tensor, "..."] | None:
    """Bring a state to float32 on the CPU; None stays None.

    Args:
        state: Native state, of any number type and precision.

    Returns:
        A copy, whose shape and entries `StateScaler` checks.

    Examples:
        >>> state_tensor(np.array([1, 2]))
        tensor([1., 2.])
    """
    if state is None:
        return None
    return (
        torch.as_tensor(np.asarray(state) if not isinstance(state, Tensor) else state).detach().to("cpu", torch.float32)
    )
