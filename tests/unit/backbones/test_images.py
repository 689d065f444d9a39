import pytest
import torch

from vla_kit.backbones.images import view_image
from vla_kit.errors import DtypeError, ShapeError


def test_a_fitting_image_is_returned_itself():
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    assert view_image("ego", image, 32) is image
    assert view_image("ego", image[:, :20], None).shape == (3, 20, 32)


def test_resize_keeps_a_flat_colour_and_averages_a_chessboard():
    flat = torch.full((3, 48, 64), 200, dtype=torch.uint8)
    assert view_image("ego", flat, 32).unique().tolist() == [200]
    board = ((torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255).to(torch.uint8).expand(3, 64, 64)
    small = view_image("ego", board, 16)
    assert small.dtype == torch.uint8
    assert (small.float() - 127.5).abs().max() < 3  # antialiased, not sampled


@pytest.mark.parametrize("shape", [(32, 32), (0, 3, 32, 32), (1, 1, 3, 32, 32), (32, 32, 3), (4, 32, 32), (3, 0, 32)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ShapeError, match=r"views must have shape \(3, height, width\)"):
        view_image("ego", torch.zeros(shape, dtype=torch.uint8), 32)


def test_floats_are_refused():
    with pytest.raises(DtypeError, match=r"views must be uint8 images in \[0, 255\], got torch.float32 for 'ego'"):
        view_image("ego", torch.zeros(3, 32, 32), 32)


def test_frames_are_resized_like_images():
    frames = torch.randint(0, 256, (3, 3, 48, 64), dtype=torch.uint8)
    resized = view_image("ego", frames, 32)
    assert resized.shape == (3, 3, 32, 32)
    for frame, image in zip(resized, frames, strict=True):
        assert torch.equal(frame, view_image("ego", image, 32))
    assert view_image("ego", resized, 32) is resized
