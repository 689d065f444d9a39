import math

import pytest
from stream import make_part

from vla_kit.data.balanced_shares import BalancedShares
from vla_kit.data.family_shares import PAPER_SHARES, FamilyShares, paper_shares
from vla_kit.data.shares import Shares
from vla_kit.errors import SettingError


def test_robots_then_tasks_are_equal_and_the_rest_is_by_weight():
    parts = [
        make_part("a1", instruction="push", weight=1.0, embodiment="arm"),
        make_part("a2", instruction="push", weight=3.0, embodiment="arm"),
        make_part("a3", instruction="pull", weight=9.0, embodiment="arm"),
        make_part("c1", instruction="push", weight=0.1, embodiment="crane"),
        make_part("c2", instruction="lift", weight=0.0, embodiment="crane"),
    ]
    both = BalancedShares(["embodiment", "instruction"])
    assert both.needs_tasks()
    assert both.weights(parts) == pytest.approx([1 / 16, 3 / 16, 1 / 4, 1 / 2, 0])
    assert BalancedShares(["instruction"]).weights(parts) == pytest.approx([1 / 8.2, 3 / 8.2, 1 / 2, 0.1 / 8.2, 0])
    alone = BalancedShares(["embodiment"])
    assert not alone.needs_tasks()
    assert alone.weights(parts) == pytest.approx([1 / 26, 3 / 26, 9 / 26, 1 / 2, 0])


@pytest.mark.parametrize("by", [[], ["robot"], ["embodiment", "embodiment"]])
def test_balance_refuses_other_names(by):
    with pytest.raises(SettingError, match="by must name some of"):
        BalancedShares(by)


def test_the_papers_shares():
    assert sum(PAPER_SHARES.values()) == pytest.approx(99.9)
    shares = paper_shares({"bridge": "robot_manipulation", "droid": "robot_manipulation", "r2r": "navigation"})
    parts = [make_part("bridge", weight=1.0), make_part("droid", weight=3.0), make_part("r2r", weight=0.01)]
    assert shares.weights(parts) == pytest.approx([74.2 / 4, 74.2 * 3 / 4, 7.5])


def test_families_refuse_what_they_do_not_know():
    with pytest.raises(SettingError, match=r"families must be among .*'navigation'.* got \['navgation'\]"):
        paper_shares({"r2r": "navgation"})
    with pytest.raises(SettingError, match=r"shares must be at least 0 and finite, got \{'x': -1\}"):
        FamilyShares({"a": "x"}, shares={"x": -1})
    for share in (math.nan, math.inf):
        with pytest.raises(SettingError, match="shares must be at least 0 and finite"):
            FamilyShares({"a": "x"}, shares={"x": share})
    with pytest.raises(SettingError, match=r"families must name every data set, got none for \['b'\]"):
        FamilyShares({"a": "x"}, shares={"x": 1}).weights([make_part("a"), make_part("b")])


def test_rules_satisfy_the_protocol():
    assert isinstance(BalancedShares(), Shares)
    assert isinstance(paper_shares({}), Shares)
