import numpy as np
import pytest

from vla_kit.data.jobs import episode_blocks
from vla_kit.errors import SettingError


def test_every_episode_is_in_one_block_and_blocks_are_filled():
    lengths = np.random.default_rng(0).integers(1, 50, size=200)
    blocks = episode_blocks(lengths, 100)
    assert [episode for block in blocks for episode in block] == list(range(200))
    sizes = [lengths[block].sum() for block in blocks]
    assert max(sizes) <= 100
    assert min(sizes[:-1]) > 50


def test_a_long_episode_is_a_block_of_its_own():
    assert episode_blocks([1, 500, 1], 10) == [[0], [1], [2]]


def test_a_choice_keeps_its_order():
    assert episode_blocks([3, 3, 3, 3], 6, episodes=[3, 1, 0]) == [[3, 1], [0]]
    assert episode_blocks([3], 6, episodes=[]) == []


def test_blocks_need_frames():
    with pytest.raises(SettingError, match="block_frames must be at least 1, got 0"):
        episode_blocks([1], 0)
