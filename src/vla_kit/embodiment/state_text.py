"""A robot's state in words: 256 bins per channel, as text in front of the instruction."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vla_kit.errors import DataError, SettingError

__all__ = ["state_bins", "state_from_bins", "state_text"]


def state_bins(state: Float[Tensor, " size"], *, bins: int = 256) -> list[int]:
    """Number of the bin of each channel; the bins are equally wide and cover [-1, 1], values outside count as its ends.

    Args:
        state: Normalised state, one entry per native channel, without padding.
        bins: Number of bins, at least 2.

    Returns:
        Bins, in [0, bins - 1].

    Raises:
        DataError: If an entry is NaN or infinite.
        SettingError: If `bins` is below 2.

    Examples:
        >>> state_bins(torch.tensor([-1.0, 0.0, 0.5, 1.0, 7.0]))
        [0, 128, 192, 255, 255]

    Source:
        Qwen-VLA, arXiv 2605.30280, section 5.2.4: 256 bins per dimension. The bins of pi0-FAST (arXiv 2501.09747);
        values below -1 are bin 0 here, where its published code gives -1.
    """
    check_bins(bins)
    if not bool(state.isfinite().all()):
        raise DataError(f"state must be finite, got {state.tolist()}. Drop the frame.")
    found: list[int] = ((state.double() + 1) * (bins / 2)).floor().clamp(0, bins - 1).long().tolist()
    return found


def state_from_bins(found: Sequence[int], *, bins: int = 256) -> Float[Tensor, " size"]:
    """Middle of each bin: the inverse of `state_bins`, within half a bin.

    Args:
        found: Bins, in [0, bins - 1].
        bins: Number of bins, at least 2.

    Returns:
        Normalised state.

    Raises:
        SettingError: If `bins` is below 2.
        DataError: If a bin is outside its range.

    Examples:
        >>> state_from_bins([0, 128], bins=256) * 256
        tensor([-255.,    1.])
    """
    check_bins(bins)
    if not all(0 <= number < bins for number in found):
        raise DataError(f"found must hold bins in [0, {bins - 1}], got {list(found)}. Use the bins that wrote them.")
    return (2 * torch.tensor(list(found), dtype=torch.float32) + 1) / bins - 1


def state_text(state: Float[Tensor, " size"], *, bins: int = 256) -> str:
    """Write a state as `EmbodimentPrompter` puts it in front of the instruction.

    Args:
        state: Normalised state, one entry per native channel, without padding.
        bins: Number of bins, at least 2.

    Returns:
        The text, without white space at its ends.

    Raises:
        DataError: If an entry is NaN or infinite.
        SettingError: If `bins` is below 2.

    Examples:
        >>> state_text(torch.tensor([-0.73, 0.0]))
        'state: [34, 128]'

    Source:
        Qwen-VLA, arXiv 2605.30280, section 5.2.4: `state: [34, 128, ...] <instruction>`.
    """
    return f"state: [{', '.join(map(str, state_bins(state, bins=bins)))}]"


def check_bins(bins: int) -> None:
    """Refuse fewer than two bins, with a SettingError."""
    if bins < 2:
        raise SettingError(f"bins must be at least 2, got {bins}. The paper uses 256.")
