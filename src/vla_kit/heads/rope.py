"""Interleaved three-axis rotary positions (M-RoPE), as Qwen3-VL and Qwen3.5 use them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vla_kit.errors import SettingError

__all__ = ["default_sections", "rotary_angles", "rotate", "validate_sections"]


def default_sections(head_width: int) -> tuple[int, int, int]:
    """Sections that rotate the whole head, shared by the three axes as evenly as the interleaving allows.

    Args:
        head_width: Features of one attention head, even.

    Returns:
        Rotated pairs of the axes (time, height, width); they sum to `head_width // 2`.

    Raises:
        SettingError: If `head_width` is odd or below 2.

    Examples:
        >>> default_sections(64)  # the sections of Qwen3.5
        (11, 11, 10)
        >>> default_sections(32)
        (6, 5, 5)

    Source:
        Qwen3.5-4B configuration for 32 pairs. Qwen-VLA (arXiv 2605.30280, section 2.2) says "aligned with the
        backbone" and gives no numbers for other head widths; the even split is ours.
    """
    if head_width < 2 or head_width % 2:
        raise SettingError(f"head_width must be even and at least 2, got {head_width}. Choose width / num_heads even.")
    pairs = head_width // 2
    return (pairs + 2) // 3, (pairs + 1) // 3, pairs // 3


def validate_sections(sections: Sequence[int], *, head_width: int) -> tuple[int, int, int]:
    """Check that sections fit into a head and can be interleaved.

    Args:
        sections: Rotated pairs of the axes (time, height, width). Pairs beyond their sum stay unrotated.
        head_width: Features of one attention head.

    Returns:
        The sections.

    Raises:
        SettingError: If there are not three, they do not fit, or the interleaving cannot place them.

    Examples:
        >>> validate_sections([11, 11, 10], head_width=256)  # rotates a quarter of the head
        (11, 11, 10)
    """
    if len(sections) != 3 or min(sections) < 0 or sum(sections) < 1:
        raise SettingError(
            f"sections must be three counts for time, height and width, got {list(sections)}. Try [11, 11, 10]."
        )
    time, height, width = sections
    if 2 * sum(sections) > head_width:
        raise SettingError(
            f"sections must fit into head_width {head_width}: twice their sum, got {2 * sum(sections)}. "
            "Choose fewer heads, smaller sections or None."
        )
    pairs = sum(sections)
    if (height and 3 * height - 1 > pairs) or 3 * width > pairs:
        raise SettingError(
            f"sections must be interleavable (height and width own at most every third pair), got {list(sections)}. "
            f"Try {list(default_sections(2 * pairs))}."
        )
    return time, height, width


def rotary_angles(
    position_ids: Int[Tensor, "3 batch token"], *, sections: Sequence[int], theta: float
) -> tuple[Float[Tensor, "batch token 1 pair"], Float[Tensor, "batch token 1 pair"]]:
    """Cosine and sine of every rotated pair of every token.

    Pair `i` turns by `theta ** (-i / pairs)` per position; pairs take turns between the axes (time, height, width,
    time, ...) until an axis has used up its section, and what is left follows the time axis. Nothing is stored, so no
    buffer can come up uninitialised when a module is built on the meta device.

    Args:
        position_ids: Positions on the axes (time, height, width).
        sections: Rotated pairs per axis.
        theta: Base of the frequencies.

    Returns:
        Cosine and sine, float32, with one axis for the heads. `pair` is the sum of `sections`.

    Examples:
        >>> import torch
        >>> position_ids = torch.tensor([0, 2]).expand(3, 1, 2)
        >>> cosine, _ = rotary_angles(position_ids, sections=(1, 0, 0), theta=1e7)
        >>> torch.allclose(cosine.flatten(), torch.tensor([0.0, 2.0]).cos())
        True

    Source:
        Qwen3-VL (arXiv 2511.21631): interleaved M-RoPE.
    """
    pairs = sum(sections)
    index = torch.arange(pairs, device=position_ids.device)
    frequency = theta ** (-index.float() / pairs)
    per_pair = position_ids[_axis_of_pair(sections, index)]  # [pair batch token]
    angle = (per_pair.float() * frequency[:, None, None]).permute(1, 2, 0)[:, :, None]
    return angle.cos(), angle.sin()


def rotate(
    vectors: Float[Tensor, "batch token head head_width"],
    angles: tuple[Float[Tensor, "batch token 1 pair"], Float[Tensor, "batch token 1 pair"]],
) -> Float[Tensor, "batch token head head_width"]:
    """Turn queries or keys by their positions.

    Pair `i` is made of features `i` and `i + pairs` (the two halves of the rotated part); features beyond twice the
    pairs pass unchanged. Dot products of two rotated vectors depend on position differences alone.

    Args:
        vectors: Queries or keys.
        angles: Cosine and sine from `rotary_angles`.

    Returns:
        Rotated vectors, dtype of `vectors`.

    Examples:
        >>> import torch
        >>> quarter = (torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1))
        >>> rotate(torch.tensor([1.0, 0.0, 5.0]).view(1, 1, 1, 3), quarter).flatten()
        tensor([0., 1., 5.])

    Source:
        RoFormer, arXiv 2104.09864; the half-split layout is that of the Qwen family.
    """
    cosine, sine = angles
    pairs = cosine.shape[-1]
    first, second, rest = vectors.split([pairs, pairs, vectors.shape[-1] - 2 * pairs], dim=-1)
    exact = torch.promote_types(vectors.dtype, cosine.dtype)
    first, second = first.to(exact), second.to(exact)
    turned = torch.cat(
        [
            torch.addcmul(first * cosine, second, sine, value=-1),
            torch.addcmul(second * cosine, first, sine),
        ],
        -1,
    ).to(vectors.dtype)
    return turned if rest.shape[-1] == 0 else torch.cat([turned, rest], -1)


def _axis_of_pair(sections: Sequence[int], index: Tensor) -> Tensor:
    _, height, width = sections
    turn = index % 3
    is_height = (turn == 1) & (index < 3 * height)
    is_width = (turn == 2) & (index < 3 * width)
    return is_height.long() + 2 * is_width.long()
