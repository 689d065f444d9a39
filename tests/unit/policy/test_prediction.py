import pytest
import torch

from vla_kit.errors import ShapeError
from vla_kit.policy.prediction import draw_noise


def test_noise_of_a_sample_depends_on_its_own_generator_and_size_alone():
    mask = torch.zeros(2, 5, 6, dtype=torch.bool)
    mask[0, :3, :2] = True
    mask[1, :5, :6] = True
    wide = draw_noise(mask, [torch.Generator().manual_seed(seed) for seed in (0, 1)])
    small = draw_noise(torch.ones(1, 3, 2, dtype=torch.bool), [torch.Generator().manual_seed(0)])
    assert torch.equal(wide[0, :3, :2], small[0])
    assert torch.equal(wide[0, 3:], torch.zeros(2, 6))
    expected = torch.randn(30, generator=torch.Generator().manual_seed(1)).view(5, 6)
    assert torch.equal(wide[1], expected)


def test_refuses_other_counts():
    with pytest.raises(ShapeError, match=r"one generator per sample \(1\), got 0"):
        draw_noise(torch.ones(1, 1, 1, dtype=torch.bool), [])
