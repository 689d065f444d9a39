import pickle

import pytest
from stream import OPENED, make_part

from vla_kit.data.lazy_parts import LazyParts
from vla_kit.errors import DataError, SettingError


def test_items_of_all_parts_in_a_row():
    parts = LazyParts([make_part("a", (2, 1)), make_part("b", (2,))])
    assert len(parts) == 5
    assert [(s.dataset, s.episode, s.frame) for s in (parts[i] for i in range(5))] == [
        ("a", 0, 0),
        ("a", 0, 1),
        ("a", 1, 0),
        ("b", 0, 0),
        ("b", 0, 1),
    ]
    for item in (-1, 5):
        with pytest.raises(IndexError, match=rf"item must lie in \[0, 5\), got {item}"):
            parts[item]


def test_sets_open_when_needed_and_the_longest_unused_closes_first():
    OPENED.clear()
    parts = LazyParts([make_part(name) for name in "abc"], open_sets=2)
    assert OPENED == []
    for part in (0, 1, 0, 2, 0, 1):
        parts.sample(part, 0)
    assert OPENED == ["a", "b", "c", "b"]  # c pushed b out, for a was used since


def test_parts_of_one_set_share_its_reader():
    whole = make_part("a", (4, 3))
    parts = [
        make_part("a", name=f"a: task {i}", length=length, open=whole.open, windows=_episode(i))
        for i, length in ((0, 4), (1, 3))
    ]
    OPENED.clear()
    lazy = LazyParts(parts)
    assert [lazy[item].episode for item in range(7)] == [0, 0, 0, 0, 1, 1, 1]
    assert OPENED == ["a"]


def _episode(index):
    part = make_part()
    return lambda reader: part.windows(reader, episodes=[index])


def test_copies_open_their_own():
    parts = LazyParts([make_part("a")])
    parts[0]
    assert not pickle.loads(pickle.dumps(parts))._open


def test_two_sets_of_one_name_are_refused_by_both_places():
    with pytest.raises(SettingError, match=r"(?s)'a' twice, of one/a and two/a.*name"):
        LazyParts([make_part("a", location="one/a"), make_part("a", location="two/a")])
    with pytest.raises(SettingError, match=r"'a' for memory:a and for two/a"):
        LazyParts([make_part("a"), make_part("a", name="other", location="two/a")])


def test_a_set_that_changed_is_refused():
    with pytest.raises(DataError, match=r"memory:a must not change .* got 7 items in place of 9"):
        LazyParts([make_part("a", length=9)])[0]


def test_refuses_settings():
    with pytest.raises(SettingError, match="parts must hold at least one part"):
        LazyParts([])
    with pytest.raises(SettingError, match="open_sets must be at least 1, got 0"):
        LazyParts([make_part()], open_sets=0)
    with pytest.raises(SettingError, match="length must be at least 1, got 0 for a"):
        make_part("a", length=0)
    with pytest.raises(SettingError, match="weight must be at least 0 and finite, got -1 for a"):
        make_part("a", weight=-1)
