import pytest
import torch

from vla_kit.errors import SettingError
from vla_kit.training.demonstration_set import DemonstrationSet, merged_statistics, split_episodes


def test_split_keeps_every_episode_once():
    train, validation = split_episodes(range(100), 0.05)
    assert len(validation) == 5
    assert sorted(train + validation) == list(range(100))
    assert split_episodes(range(100), 0.05) == (train, validation)
    assert split_episodes(range(100), 0.05, seed=1) != (train, validation)


def test_split_of_few_episodes():
    assert split_episodes([7], 0.5) == ([7], [])
    assert [len(part) for part in split_episodes(range(2), 0.9)] == [1, 1]
    assert [len(part) for part in split_episodes(range(4), 0.01)] == [3, 1]
    assert [len(part) for part in split_episodes(range(4), 0.0)] == [4, 0]


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_split_refuses(share):
    with pytest.raises(SettingError, match="validation_share must lie in"):
        split_episodes(range(3), share)


def test_statistics_of_a_robot_cover_all_its_sets(make_set):
    readers = [make_set("arm-0").open(with_views=False), make_set("arm-1", scale=3.0).open(with_views=False)]
    merged = merged_statistics(readers)["arm"]
    frames = torch.cat([reader.actions(index) for reader in readers for index in range(4)]).double()
    assert torch.allclose(merged.q01, torch.quantile(frames, 0.01, dim=0).float())
    assert torch.allclose(merged.q99, torch.quantile(frames, 0.99, dim=0).float())
    assert merged.count == len(frames)


def test_statistics_of_one_set_are_the_readers(make_set):
    reader = make_set("arm").open(with_views=False)
    assert merged_statistics([reader])["arm"].fingerprint == reader.statistics().fingerprint


def test_opens_without_pictures(make_set):
    one = make_set("arm")
    assert one.open(with_views=False).frames(0, [0]) == {}
    assert one.open().frames(0, [0])["cam"].shape == (1, 3, 32, 32)


def test_takes_the_first_episodes(make_set):
    one = make_set("arm")
    fewer = DemonstrationSet(root=one.root, embodiment="arm", num_episodes=2)
    assert fewer.episodes(fewer.open()) == [0, 1]
    assert one.episodes(one.open(with_views=False)) == [0, 1, 2, 3]


def test_refuses():
    with pytest.raises(SettingError, match="weight must be at least 0, got -1"):
        DemonstrationSet(root="x", embodiment="arm", weight=-1)
    with pytest.raises(SettingError, match="num_episodes must be at least 1, got 0"):
        DemonstrationSet(root="x", embodiment="arm", num_episodes=0)
    with pytest.raises(SettingError, match="stride must be at least 1, got 0 for x"):
        DemonstrationSet(root="x", embodiment="arm", stride=0)
