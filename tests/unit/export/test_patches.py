import pytest
import torch
from transformers import Qwen2VLImageProcessor

from vla_kit.errors import SettingError
from vla_kit.export.patches import Patches

MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


@pytest.fixture
def pictures():
    return torch.randint(0, 256, (3, 3, 16, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def patches():
    return Patches(patch_size=4, merge_size=2, temporal_patch_size=2, mean=MEAN, std=STD)


def test_patches_are_those_of_the_processor_of_transformers(patches, pictures):
    processor = Qwen2VLImageProcessor(patch_size=4, merge_size=2, temporal_patch_size=2, image_mean=MEAN, image_std=STD)
    theirs = processor(list(pictures), do_resize=False, return_tensors="pt")
    assert theirs["image_grid_thw"].tolist() == [[1, 4, 6]] * 3
    torch.testing.assert_close(patches.split(pictures).flatten(0, 1), theirs["pixel_values"])


def test_patches_become_the_same_pictures_again(patches, pictures):
    assert torch.equal(patches.join(patches.split(pictures), rows=4, columns=6), pictures)


def test_patches_of_something_else_are_refused(patches, pictures):
    with pytest.raises(SettingError, match="image_processor must only resize, scale and normalise RGB pictures, got"):
        patches.join(patches.split(pictures) + 0.01, rows=4, columns=6)
