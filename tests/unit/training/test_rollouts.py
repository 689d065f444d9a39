import pytest

from vla_kit.envs.seeds import EVALUATION_SEEDS_FROM
from vla_kit.errors import SettingError
from vla_kit.training.difficulty import DifficultyShares
from vla_kit.training.rollouts import ROLLOUT_SEEDS_FROM, RolloutDataModule


def seeds(data, played):
    data.played = played
    return [episode.seed for episode in data._plan()]


def test_no_scene_comes_twice_and_none_is_of_an_evaluation():
    data = RolloutDataModule(["metaworld/reach", "metaworld/push"], episodes=100)
    first, second = seeds(data, 0), seeds(data, 1)
    assert len({*first, *second}) == 200
    assert all(ROLLOUT_SEEDS_FROM <= seed < EVALUATION_SEEDS_FROM for seed in first + second)
    far = seeds(data, 10**6)
    assert all(ROLLOUT_SEEDS_FROM <= seed < EVALUATION_SEEDS_FROM for seed in far)
    assert not {*first} & {*seeds(RolloutDataModule(["metaworld/reach"], episodes=100, seed=1), 0)}


def test_tries_share_a_scene():
    data = RolloutDataModule(["metaworld/reach", "metaworld/push"], episodes=24, tries=4)
    plan = data._plan()
    assert [episode.number for episode in plan] == list(range(24))
    scenes = [{(episode.task, episode.seed) for episode in plan[start : start + 4]} for start in range(0, 24, 4)]
    assert all(len(scene) == 1 for scene in scenes)
    assert len(set.union(*scenes)) == 6


def test_hard_tasks_have_more_episodes_and_it_is_remembered():
    data = RolloutDataModule(["metaworld/reach", "metaworld/push"], episodes=100)
    data.shares.update({"metaworld/reach": 0.8, "metaworld/push": 0.2})
    data.played = 7
    again = RolloutDataModule(["metaworld/reach", "metaworld/push"], episodes=100)
    again.load_state_dict(data.state_dict())
    assert again._plan() == data._plan()
    tasks = [episode.task for episode in again._plan()]
    assert (tasks.count("metaworld/reach"), tasks.count("metaworld/push")) == (20, 80)


def test_shares_follow_failure_smoothly_and_forget_none():
    shares = DifficultyShares(smoothing=0.75, least=0.1)
    assert shares.episodes(["a", "b"], 10) == {"a": 5, "b": 5}
    shares.update({"a": 0.0, "b": 1.0})
    assert shares.episodes(["a", "b"], 110) == {"a": 100, "b": 10}
    shares.update({"a": 1.0, "b": 1.0})  # a failed 0.75 of the time
    assert shares.state_dict() == {"a": 0.75, "b": 0.0}
    assert shares.episodes(["a", "b"], 85) == {"a": 75, "b": 10}


@pytest.mark.parametrize("total", [3, 7, 100])
def test_shares_sum_to_the_episodes(total):
    shares = DifficultyShares()
    shares.update({"a": 0.99, "b": 0.98, "c": 0.05})
    found = shares.episodes(["a", "b", "c"], total)
    assert sum(found.values()) == total
    assert min(found.values()) >= 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tasks": []}, "tasks must name at least one task, got none"),
        ({"episodes": 0}, "episodes must be at least 1, got 0"),
        ({"environments": 0}, "environments must be at least 1, got 0"),
        ({"episodes": 10, "tries": 4}, "tries must divide episodes, got 4 and 10"),
    ],
)
def test_refuses_settings(settings, said):
    with pytest.raises(SettingError, match=said):
        RolloutDataModule(**{"tasks": ["metaworld/reach"], **settings})


@pytest.mark.parametrize(
    ("setting", "said"), [({"smoothing": 1.0}, "smoothing must lie in"), ({"least": 0}, "least must lie")]
)
def test_refuses_shares(setting, said):
    with pytest.raises(SettingError, match=said):
        DifficultyShares(**setting)
