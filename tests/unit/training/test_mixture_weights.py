from itertools import pairwise

import pytest
import torch

from vla_kit.errors import SettingError
from vla_kit.training.mixture import mixture_weights


def test_parts_are_drawn_by_share_not_by_length():
    weights = mixture_weights([range(10), range(1000), range(5)], [1.0, 1.0, 2.0])
    assert weights.sum().item() == pytest.approx(1)
    ends = [0, 10, 1010, 1015]
    sums = [weights[a:b].sum().item() for a, b in pairwise(ends)]
    assert sums == pytest.approx([0.25, 0.25, 0.5])
    assert weights.dtype == torch.float64


def test_a_share_of_0_is_never_drawn():
    assert mixture_weights([range(2), range(2)], [0.0, 3.0]).tolist() == [0, 0, 0.5, 0.5]


@pytest.mark.parametrize("shares", [[1.0], [-1.0, 2.0], [0.0, 0.0]])
def test_refuses(shares):
    with pytest.raises(SettingError, match="shares must"):
        mixture_weights([range(2), range(2)], shares)
