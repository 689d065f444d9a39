import pytest
import torch

from vla_kit.errors import DtypeError, SettingError, ShapeError
from vla_kit.metrics import wilson_interval
from vla_kit.metrics.success import SuccessRate


def test_counts_over_batches():
    metric = SuccessRate()
    metric.update(torch.tensor([True, False]))
    metric.update(torch.tensor([True, True, False]))
    values = {name: value.item() for name, value in metric.compute().items()}
    low, high = wilson_interval(3, 5)
    assert values == pytest.approx({"rate": 0.6, "low": low, "high": high, "trials": 5})


def test_forward_returns_the_batch_and_reset_forgets():
    metric = SuccessRate(confidence=0.9)
    assert metric(torch.tensor([True]))["rate"].item() == 1.0
    assert metric(torch.tensor([False]))["rate"].item() == 0.0
    assert metric.compute()["rate"].item() == 0.5
    metric.reset()
    assert metric.trials.item() == 0


def test_no_trials_is_nan():
    metric = SuccessRate()
    metric.update(torch.zeros(0, dtype=torch.bool))
    assert metric.compute()["rate"].isnan()


def test_wrong_arguments():
    with pytest.raises(DtypeError, match=r"success must be bool, got torch\.float32"):
        SuccessRate().update(torch.ones(2))
    with pytest.raises(ShapeError, match=r"success must have the shape \(batch,\), got \(1, 1\)"):
        SuccessRate().update(torch.ones(1, 1, dtype=torch.bool))
    with pytest.raises(SettingError, match=r"confidence must lie in \(0, 1\), got 1"):
        SuccessRate(confidence=1)
