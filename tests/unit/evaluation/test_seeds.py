import pytest

from vla_kit.errors import SettingError
from vla_kit.evaluation.seeds import (
    EVALUATION_SEEDS_FROM,
    TRAINING_SEEDS_FROM,
    check_evaluation_seeds,
    evaluation_seeds,
)


def test_evaluation_begins_where_training_cannot_reach():
    assert EVALUATION_SEEDS_FROM - TRAINING_SEEDS_FROM > 900_000
    assert list(evaluation_seeds(2, offset=5)) == [1_000_005, 1_000_006]
    assert check_evaluation_seeds(evaluation_seeds(3)) == list(evaluation_seeds(3))


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([], "seeds must hold at least one"),
        ([1_000_000, 1_000_000], "seeds must differ"),
        ([1_000_001, 999_999], "seeds must be at least 1000000, got 999999"),
    ],
)
def test_refuses_seeds(seeds, message):
    with pytest.raises(SettingError, match=message):
        check_evaluation_seeds(seeds)


def test_refuses_numbers():
    with pytest.raises(SettingError, match="count must be at least 1, got 0"):
        evaluation_seeds(0)
    with pytest.raises(SettingError, match="offset must be at least 0, got -1"):
        evaluation_seeds(1, offset=-1)
