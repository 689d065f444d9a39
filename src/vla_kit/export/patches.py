"""Pictures as the patches of a Qwen vision tower, and back, in operations that a graph can hold."""

import math
from collections.abc import Sequence

import torch
from einops import rearrange, repeat
from jaxtyping import Float, UInt8
from torch import Tensor

from vla_kit.errors import SettingError

__all__ = ["Patches"]

_COLOURS = 3


class Patches:
    """The arithmetic of `Qwen2VLImageProcessor` without its resizing.

    Args:
        patch_size: Side of a patch [pixel].
        merge_size: Patches per side that become one token; they lie side by side.
        temporal_patch_size: Copies of a picture in its patches.
        mean: Of each colour, of pixels in [0, 1].
        std: Of each colour, of pixels in [0, 1].

    Raises:
        SettingError: If a size is below 1, or mean and std are not three finite numbers each, the latter above 0.

    Examples:
        >>> patches = Patches(patch_size=2, merge_size=1, temporal_patch_size=2, mean=[0.5] * 3, std=[0.5] * 3)
        >>> pictures = torch.arange(24, dtype=torch.uint8).reshape(1, 3, 2, 4)
        >>> apart = patches.split(pictures)
        >>> apart.shape, torch.equal(patches.join(apart, rows=1, columns=2), pictures)
        (torch.Size([1, 2, 24]), True)

    Source:
        The layout of `Qwen2VLImageProcessor` in transformers; the tests compare the two.
    """

    def __init__(
        self,
        *,
        patch_size: int,
        merge_size: int,
        temporal_patch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        sizes = {"patch_size": patch_size, "merge_size": merge_size, "temporal_patch_size": temporal_patch_size}
        for name, size in sizes.items():
            if size < 1:
                raise SettingError(f"{name} must be at least 1, got {size}. Take that of the image processor.")
        for name, values, least in (("mean", mean, -math.inf), ("std", std, 0.0)):
            if len(values) != _COLOURS or not all(least < value < math.inf for value in values):
                rule = "finite numbers" if name == "mean" else "finite numbers above 0"
                raise SettingError(
                    f"{name} must be {_COLOURS} {rule}, got {list(values)}. Take those of the image processor."
                )
        self.patch_size = patch_size
        self.merge_size = merge_size
        self.temporal_patch_size = temporal_patch_size
        self._mean, self._std = tuple(255 * value for value in mean), tuple(255 * value for value in std)

    def split(self, pictures: UInt8[Tensor, "image 3 height image_width"]) -> Float[Tensor, "image patch feature"]:
        """Scale pictures and cut them.

        Args:
            pictures: RGB in [0, 255], sides a multiple of patch size times merge size.

        Returns:
            Patches of each picture, those of one token side by side.
        """
        scaled = (pictures.float() - self._of_colour(self._mean, pictures)) / self._of_colour(self._std, pictures)
        apart = rearrange(
            scaled,
            "image c (row mr pr) (column mc pc) -> image (row column mr mc) c (pr pc)",
            mr=self.merge_size,
            mc=self.merge_size,
            pr=self.patch_size,
            pc=self.patch_size,
        )
        return repeat(apart, "image patch c pixel -> image patch (c time pixel)", time=self.temporal_patch_size)

    def join(
        self, patches: Float[Tensor, "image patch feature"], *, rows: int, columns: int
    ) -> UInt8[Tensor, "image 3 height image_width"]:
        """Inverse of `split`.

        Args:
            patches: Of pictures of one size.
            rows: Patches of a picture from top to bottom.
            columns: Patches of a picture from left to right.

        Returns:
            The pictures.

        Raises:
            SettingError: If the patches are not those of pictures in [0, 255].
        """
        one = rearrange(
            patches, "image patch (c time pixel) -> time image patch c pixel", c=_COLOURS, time=self.temporal_patch_size
        )[0]
        scaled = rearrange(
            one,
            "image (row column mr mc) c (pr pc) -> image c (row mr pr) (column mc pc)",
            row=rows // self.merge_size,
            column=columns // self.merge_size,
            mr=self.merge_size,
            mc=self.merge_size,
            pr=self.patch_size,
            pc=self.patch_size,
        )
        values = scaled * self._of_colour(self._std, scaled) + self._of_colour(self._mean, scaled)
        pictures = values.round().clamp(0, 255).to(torch.uint8)
        error = float((pictures.float() - values).abs().max())
        if not error < 0.1:
            raise SettingError(
                f"image_processor must only resize, scale and normalise RGB pictures, got patches that are {error:.2f} "
                "grey levels beside such a picture. Leave further changes to it out."
            )
        return pictures

    def _of_colour(self, values: Sequence[float], like: Tensor) -> Float[Tensor, "3 1 1"]:
        return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None, None]
