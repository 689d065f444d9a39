import pytest
import torch
from torch.nn.functional import pad

from vla_kit.data import ColorJitter, RandomShift
from vla_kit.errors import SettingError


def random_images(count=8, height=6, width=5):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def test_shift_equals_padding_and_cropping():
    images, pixels = random_images(), 2
    shifted = RandomShift(pixels)(images, generator=torch.Generator().manual_seed(1))
    draws = torch.randint(-pixels, pixels + 1, (2, 8, 1), generator=torch.Generator().manual_seed(1))
    padded = pad(images.float(), (pixels,) * 4, mode="replicate").to(torch.uint8)
    for index in range(8):
        top, left = (int(draws[axis, index, 0]) + pixels for axis in (0, 1))
        assert torch.equal(shifted[index], padded[index, :, top : top + 6, left : left + 5])
    assert len(draws.flatten(1).T.unique(dim=0)) > 1


def test_shift_is_repeatable_and_leaves_its_input():
    images = random_images()
    kept = images.clone()
    first, second = (RandomShift(3)(images, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(images, kept)
    assert torch.equal(RandomShift(0)(images), images)


def test_shift_larger_than_the_image_gives_border_pixels():
    shifted = RandomShift(50)(random_images(height=1, width=1))
    assert torch.equal(shifted, random_images(height=1, width=1))


def test_jitter_by_hand():
    images = torch.tensor([100, 200], dtype=torch.uint8).expand(4, 3, 1, 2).contiguous()
    jitter = ColorJitter(brightness=0.2, contrast=0.4)
    draws = torch.rand(2, 4, 1, 1, 1, generator=torch.Generator().manual_seed(2))
    result = jitter(images, generator=torch.Generator().manual_seed(2))
    for index in range(4):
        brightness = 1 + 0.2 * (2 * float(draws[0, index]) - 1)
        contrast = 1 + 0.4 * (2 * float(draws[1, index]) - 1)
        expected = [150 * brightness + sign * 50 * brightness * contrast for sign in (-1, 1)]
        assert result[index, 0, 0].tolist() == pytest.approx([min(255, value) for value in expected], abs=0.51)


def test_jitter_stays_in_range_and_dtype():
    result = ColorJitter(brightness=1.0, contrast=1.0)(random_images(), generator=torch.Generator().manual_seed(0))
    assert result.dtype == torch.uint8
    assert torch.equal(ColorJitter(brightness=0, contrast=0)(random_images()), random_images())


def test_wrong_settings():
    with pytest.raises(SettingError, match="pixels must be at least 0, got -1"):
        RandomShift(-1)
    with pytest.raises(SettingError, match=r"contrast must lie in \[0, 1\], got 1.5"):
        ColorJitter(contrast=1.5)
