import json

import numpy as np
import pytest

from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.data.statistics import compare_published, source_statistics


class Publishing(MemorySource):
    """A source that comes with statistics, right or wrong, as LeRobot sets do."""

    published_statistics = None


def make_source(*, num_episodes=20, seed=0):
    """Episodes that happen in different places, as robots' do: their quantiles average to something else."""
    rng = np.random.default_rng(seed)
    episodes = []
    for index in range(num_episodes):
        values = rng.normal(size=(100, 3)).astype(np.float32) * [1, 2, 0] + [0, 30 * index, 5]
        episodes.append(values.astype(np.float32))
    return Publishing([MemoryEpisode(columns={"action": values, "state": values}) for values in episodes]), episodes


def quantiles(values, *, method="linear"):
    q01, q99 = np.quantile(values, [0.01, 0.99], axis=0, method=method)
    return {"q01": q01.tolist(), "q99": q99.tolist()}


def averaged(episodes):
    each = [quantiles(values) for values in episodes]
    return {name: np.mean([entry[name] for entry in each], axis=0).tolist() for name in ("q01", "q99")}


def test_averages_of_episodes_are_found_with_channel_error_and_rank():
    source, episodes = make_source()
    frames = np.concatenate(episodes)
    source.published_statistics = {
        "action": averaged(episodes),
        "state": quantiles(frames),
        "image": averaged(episodes),
    }
    computed = source_statistics(source)
    low, high = compare_published(source, computed)
    assert [(each.column, each.quantile) for each in (low, high)] == [("action", "q01"), ("action", "q99")]
    assert set(low.channels) >= {1}
    assert 2 not in low.channels
    place = low.channels.index(1)
    published = source.published_statistics["action"]["q01"][1]
    assert low.published[place] == pytest.approx(published)
    assert low.computed[place] == computed["action"].q01[1]
    assert low.ranks[place] == pytest.approx((frames[:, 1] < published).mean())
    error = published - np.quantile(frames[:, 1], 0.01)
    assert error > 96
    text = str(low)
    assert text.startswith("published q01 of action is wrong in channels [")
    assert f"by up to {error:.6g} (channel 1: {published:.6g}, which is the" in text


@pytest.mark.parametrize("pick", [np.min, np.max])
def test_extremes_of_episodes_are_found(pick):
    source, episodes = make_source()
    each = [quantiles(values) for values in episodes]
    source.published_statistics = {
        "action": {name: pick([entry[name] for entry in each], axis=0).tolist() for name in ("q01", "q99")}
    }
    found = compare_published(source, source_statistics(source))
    assert any(1 in each.channels for each in found)
    assert not any(2 in each.channels for each in found)


@pytest.mark.parametrize("method", ["linear", "lower", "nearest", "median_unbiased", "inverted_cdf"])
def test_other_formulas_of_interpolation_are_right(method):
    source, episodes = make_source(num_episodes=3)
    source.published_statistics = {"action": quantiles(np.concatenate(episodes), method=method)}
    assert compare_published(source, source_statistics(source)) == []


def test_rounding_of_a_constant_channel_is_right():
    source, episodes = make_source()
    published = quantiles(np.concatenate(episodes))
    published["q01"][2] += 1e-8
    source.published_statistics = {"action": published}
    assert compare_published(source, source_statistics(source)) == []


def test_ranks_are_of_the_chosen_episodes():
    source, episodes = make_source()
    source.published_statistics = {"action": quantiles(episodes[3])}
    assert compare_published(source, source_statistics(source, episodes=[3]), episodes=[3]) == []
    assert compare_published(source, source_statistics(source))


def test_other_sizes_and_broken_numbers_are_found():
    source, episodes = make_source()
    source.published_statistics = {"action": {"q01": [0.0], "q99": [1.0]}}
    found = compare_published(source, source_statistics(source))
    assert [str(each) for each in found] == [
        f"published {name} of action has 1 channels in place of 3" for name in ("q01", "q99")
    ]
    published = quantiles(np.concatenate(episodes))
    published["q99"][0] = float("nan")
    source.published_statistics = {"action": published}
    (found,) = compare_published(source, source_statistics(source))
    assert (found.quantile, found.channels) == ("q99", (0,))
    assert "nan" in str(found)


@pytest.mark.parametrize("published", [None, {}, {"action": {"mean": [0.0], "std": [1.0]}}])
def test_nothing_published_is_nothing_wrong(published):
    source, _ = make_source(num_episodes=2)
    source.published_statistics = published
    assert compare_published(source, source_statistics(source)) == []


def test_gr1_publishes_the_truth(shared_data):
    from vla_kit.data.readers.open import open_source

    source = open_source(shared_data / "groot_gr1_pnp")
    computed = source_statistics(source, columns=["action", "observation.state"])
    assert compare_published(source, computed) == []
    published = json.loads((shared_data / "groot_gr1_pnp/meta/stats.json").read_text())
    for key, stats in computed.items():
        for name in ("q01", "q99"):
            np.testing.assert_allclose(getattr(stats, name), published[key][name], rtol=0, atol=1e-6)
