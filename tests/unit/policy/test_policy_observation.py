import numpy as np
import pytest
import torch

from vla_kit.errors import DtypeError, ShapeError
from vla_kit.policy.observation import image_tensor


def test_colour_moves_first():
    picture = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    tensor = image_tensor(picture, tag="cam")
    assert tensor.shape == (3, 4, 5)
    assert tensor[1, 2, 3] == picture[2, 3, 1]
    assert torch.equal(image_tensor(tensor, tag="cam"), tensor)
    assert torch.equal(image_tensor(tensor.numpy(), tag="cam"), tensor)
    assert torch.equal(image_tensor(torch.from_numpy(picture), tag="cam"), tensor)


def test_flipped_arrays_are_taken():
    picture = np.zeros((4, 4, 3), dtype=np.uint8)[::-1]
    assert image_tensor(picture, tag="cam").shape == (3, 4, 4)


def test_where_both_readings_are_possible_the_library_decides():
    picture = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    assert image_tensor(picture, tag="cam")[0, 0, 1] == picture[0, 1, 0]
    assert image_tensor(torch.from_numpy(picture), tag="cam")[0, 0, 1] == picture[0, 0, 1]


def test_refuses():
    with pytest.raises(DtypeError, match=r"views\['cam'\] must be uint8 .* got torch.float32"):
        image_tensor(np.zeros((4, 4, 3), dtype=np.float32), tag="cam")
    with pytest.raises(ShapeError, match=r"got \(4, 4\)"):
        image_tensor(np.zeros((4, 4), dtype=np.uint8), tag="cam")
    with pytest.raises(ShapeError, match=r"got \(4, 4, 4\)"):
        image_tensor(np.zeros((4, 4, 4), dtype=np.uint8), tag="cam")


def test_frames_of_a_history():
    pictures = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    frames = image_tensor(pictures, tag="cam")
    assert frames.shape == (2, 3, 4, 5)
    for frame, picture in zip(frames, pictures, strict=True):
        assert torch.equal(frame, image_tensor(picture, tag="cam"))
    assert torch.equal(image_tensor(frames, tag="cam"), frames)
    assert torch.equal(image_tensor(frames.numpy(), tag="cam"), frames)
    with pytest.raises(ShapeError, match=r"or frames of it, got \(0, 4, 5, 3\)"):
        image_tensor(pictures[:0], tag="cam")
