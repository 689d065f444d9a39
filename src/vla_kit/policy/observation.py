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
            the sequence. Absent cameras are left out.
        state: What the robot measures of itself, native, in the order of its `state_space`. Policies that were trained
            without states do not look at it.

    Examples:
        >>> picture = np.zeros((96, 96, 3), dtype=np.uint8)
        >>> PolicyObservation(embodiment="arm", instruction="push", views={"cam_high": picture}).instruction
        'push'
    """

    embodiment: str
    instruction: str
    views: Mapping[str, np.ndarray | Tensor]
    state: Float[np.ndarray, " state_size"] | Float[Tensor, " state_size"] | None = None


def image_tensor(image: np.ndarray | Tensor, *, tag: str) -> UInt8[Tensor, "3 height image_width"]:
    """Bring a picture to colour first.

    Args:
        image: RGB, uint8 in [0, 255], shape (height, image_width, 3) or (3, height, image_width). Where both readings
            are possible, an array counts as colour last and a tensor as colour first, as their libraries have it.
        tag: Name of the view, for the message.

    Returns:
        The picture as a tensor; it may share memory with `image`.

    Raises:
        ShapeError: If no end of the shape is 3.
        DtypeError: If the picture is not uint8.

    Examples:
        >>> image_tensor(np.zeros((4, 6, 3), dtype=np.uint8), tag="cam_high").shape
        torch.Size([3, 4, 6])
    """
    tensor = image if isinstance(image, Tensor) else torch.from_numpy(np.ascontiguousarray(image))
    if tensor.dtype != torch.uint8:
        raise DtypeError(f"views[{tag!r}] must be uint8 in [0, 255], got {tensor.dtype}. Keep raw pixels.")
    if tensor.ndim != 3 or 3 not in (tensor.shape[0], tensor.shape[2]):
        raise ShapeError(
            f"views[{tag!r}] must have the shape (height, image_width, 3) or (3, height, image_width), "
            f"got {tuple(tensor.shape)}. Give one RGB picture per view."
        )
    colour_last = tensor.shape[2] == 3 and (tensor.shape[0] != 3 or not isinstance(image, Tensor))
    return tensor.permute(2, 0, 1).contiguous() if colour_last else tensor


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
