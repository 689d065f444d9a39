import pytest

from vla_kit.data.split import split_episodes
from vla_kit.errors import SettingError


def test_split_keeps_every_episode_once():
    train, validation = split_episodes(range(100), 0.05)
    assert len(validation) == 5
    assert sorted(train + validation) == list(range(100))
    assert split_episodes(range(100), 0.05) == (train, validation)
    assert split_episodes(range(100), 0.05, seed=1) != (train, validation)


def test_split_keeps_the_numbers_of_the_source():
    train, validation = split_episodes([3, 40, 7, 12], 0.5)
    assert sorted(train + validation) == [3, 7, 12, 40]


def test_split_of_few_episodes():
    assert split_episodes([7], 0.5) == ([7], [])
    assert [len(part) for part in split_episodes(range(2), 0.9)] == [1, 1]
    assert [len(part) for part in split_episodes(range(4), 0.01)] == [3, 1]
    assert [len(part) for part in split_episodes(range(4), 0.0)] == [4, 0]


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_split_refuses(share):
    with pytest.raises(SettingError, match="validation_share must lie in"):
        split_episodes(range(3), share)
