"""Image augmentation on uint8 batches, all images at once."""

import torch
from jaxtyping import UInt8
from torch import Generator, Tensor, nn

from vla_kit.errors import SettingError

__all__ = ["ColorJitter", "RandomShift"]


class RandomShift(nn.Module):
    """Shifts each image by a random whole number of pixels; the border is repeated into the gap.

    Every image draws its own shift. Chain augmentations with `torch.nn.Sequential`.

    Args:
        pixels: Largest shift to each side; 4 suits images of about 84 to 96 pixels.

    Raises:
        SettingError: If `pixels` is negative.

    Examples:
        >>> images = torch.arange(16, dtype=torch.uint8).reshape(1, 1, 4, 4).expand(1, 3, 4, 4)
        >>> RandomShift(1)(images, generator=torch.Generator().manual_seed(0)).shape
        torch.Size([1, 3, 4, 4])

    Source:
        Pad and crop as in DrQ, arXiv 2004.13649, section 3. Qwen-VLA, arXiv 2605.30280, is silent on augmentation.
    """

    def __init__(self, pixels: int) -> None:
        super().__init__()
        if pixels < 0:
            raise SettingError(f"pixels must be at least 0, got {pixels}. Use 0 for no shift.")
        self.pixels = pixels

    def forward(
        self, images: UInt8[Tensor, "image 3 height image_width"], *, generator: Generator | None = None
    ) -> UInt8[Tensor, "image 3 height image_width"]:
        """Shift the images; `generator` makes the draws repeatable."""
        count, _, height, width = images.shape
        shifts = torch.randint(
            -self.pixels, self.pixels + 1, (2, count, 1), generator=generator, device=_drawn_on(generator)
        )
        shifts = shifts.to(images.device)
        rows = (torch.arange(height, device=images.device) + shifts[0]).clamp(0, height - 1)
        columns = (torch.arange(width, device=images.device) + shifts[1]).clamp(0, width - 1)
        which = torch.arange(count, device=images.device)[:, None, None]
        # Index arrays around a slice put their axes first: (image, height, image_width, colour).
        return images[which, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


class ColorJitter(nn.Module):
    """Changes brightness and contrast of each image by random factors.

    Args:
        brightness: Brightness is multiplied with a factor from `1 - brightness` to `1 + brightness`.
        contrast: Distance to the image's mean is multiplied with a factor from `1 - contrast` to `1 + contrast`.

    Raises:
        SettingError: If one of them lies outside [0, 1].

    Examples:
        >>> images = torch.full((1, 3, 2, 2), 100, dtype=torch.uint8)
        >>> bool((ColorJitter(brightness=0.0, contrast=0.5)(images) == images).all())
        True

    Source:
        Qwen-VLA, arXiv 2605.30280, is silent on augmentation; the ranges are ours.
    """

    def __init__(self, *, brightness: float = 0.2, contrast: float = 0.2) -> None:
        super().__init__()
        for name, value in (("brightness", brightness), ("contrast", contrast)):
            if not 0 <= value <= 1:
                raise SettingError(f"{name} must lie in [0, 1], got {value}. Use 0 for no change.")
        self.brightness = brightness
        self.contrast = contrast

    def forward(
        self, images: UInt8[Tensor, "image 3 height image_width"], *, generator: Generator | None = None
    ) -> UInt8[Tensor, "image 3 height image_width"]:
        """Change the images; `generator` makes the draws repeatable."""
        draws = torch.rand(2, len(images), 1, 1, 1, generator=generator, device=_drawn_on(generator))
        either_side = 2 * draws.to(images.device) - 1
        bright = images.float() * (1 + self.brightness * either_side[0])
        mean = bright.mean(dim=(1, 2, 3), keepdim=True)
        return ((bright - mean) * (1 + self.contrast * either_side[1]) + mean).round().clamp(0, 255).to(torch.uint8)


def _drawn_on(generator: Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device
