from collections import Counter

import pytest
from stream import make_part

from vla_kit.data.mixture import Mixture
from vla_kit.errors import SettingError


def identity(sample):
    return sample.dataset, sample.episode, sample.frame


def test_samples_come_in_the_shares_of_their_parts():
    mixture = Mixture([make_part("a", weight=1.0), make_part("b", (50,), weight=3.0), make_part("c", weight=0)])
    assert mixture.shares == {"a": 0.25, "b": 0.75, "c": 0.0}
    drawn = Counter(sample.dataset for sample in mixture.samples(range(400)))
    assert drawn == {"a": 100, "b": 300}


def test_numbers_alone_say_which_samples():
    mixture = Mixture([make_part("a"), make_part("b", (50,))])
    in_order = [identity(sample) for sample in mixture.samples(range(40))]
    numbers = [7, 3, 39, 3]
    again = Mixture([make_part("a"), make_part("b", (50,))]).samples(numbers)
    assert [identity(sample) for sample in again] == [in_order[number] for number in numbers]
    other = Mixture([make_part("a"), make_part("b", (50,))], seed=1).samples(range(40))
    assert [identity(sample) for sample in other] != in_order


def test_every_sample_once_before_one_comes_again():
    mixture = Mixture([make_part("a", (4, 3))])
    block = [identity(sample) for sample in mixture.samples(range(700))]
    assert set(Counter(block).values()) == {100}


def test_weights_of_a_rule_replace_the_parts_own():
    assert Mixture([make_part("a"), make_part("b")], weights=[1, 4]).shares == {"a": 0.2, "b": 0.8}


def test_fingerprints_tell_what_would_change_the_samples():
    def prints(**changes):
        return Mixture([make_part("a", **changes), make_part("b")], seed=0).fingerprints

    before = prints()
    assert prints() == before
    assert prints(fingerprint="other")["a"] != before["a"]
    assert prints(fingerprint="other")["b"] == before["b"]
    assert prints(lengths=(4, 4))["a"] != before["a"]
    assert prints(weight=2.0)["b"] != before["b"]
    assert Mixture([make_part("a"), make_part("b")], seed=1).fingerprints["a"] != before["a"]


def test_refuses_settings():
    with pytest.raises(SettingError, match="at least one part"):
        Mixture([])
    with pytest.raises(SettingError, match="not all 0"):
        Mixture([make_part(weight=0)])
    with pytest.raises(SettingError, match="'a' twice"):
        Mixture([make_part(), make_part()])
