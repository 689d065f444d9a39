"""A run ends before inf or NaN reaches the weights."""

import math

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch.utils.data import DataLoader

from vla_kit.errors import NonFiniteError, SettingError
from vla_kit.training.finite_gradients import FiniteGradients


class Slope(LightningModule):
    """Loss `weight * x`, so the gradient is x and a step takes 0.25 x off the weight."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(1.0))

    def training_step(self, batch, batch_idx):
        return (self.weight * batch).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.25)


def fit(values, *, patience=25, **settings):
    module = Slope()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[FiniteGradients(patience)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    data = DataLoader(torch.tensor(values), batch_size=1)
    try:
        trainer.fit(module, data)
    finally:
        fit.weight = module.weight.item()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_bad_step_ends_the_run_and_is_not_taken(bad):
    text = (
        r"got inf or NaN in 1 parameters, such as weight, in step 2 with precision 32-true\. Lower the learning rates"
    )
    with pytest.raises(NonFiniteError, match=text):
        fit([1.0, 1.0, bad, 1.0])
    assert fit.weight == 0.5


def test_clipping_cannot_hide_it():
    with pytest.raises(NonFiniteError, match="in step 0"):
        fit([math.inf], gradient_clip_val=1.0)
    assert fit.weight == 1.0


def test_a_bad_micro_batch_spoils_the_step_it_belongs_to():
    with pytest.raises(NonFiniteError, match="in step 1"):
        fit([1.0, 1.0, math.nan, 1.0], accumulate_grad_batches=2)
    assert fit.weight == 1 - 0.25  # Lightning halves the loss of each of two micro-batches


def test_finite_gradients_pass():
    fit([1.0, 1.0, 1.0])
    assert fit.weight == 0.25


def test_float16_overflow_names_bfloat16():
    with pytest.raises(NonFiniteError, match=r"precision 16-true\. float16 ends at 65504: .*bf16-mixed"):
        fit([[300.0, 300.0], [60000.0, 60000.0]], precision="16-true")


def scaled(*, scale=1024.0):
    return [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))]


def test_a_gradient_scaler_may_skip_steps_that_overflow():
    fit([1.0, math.inf, 1.0, math.inf, 1.0], patience=2, plugins=scaled())
    assert fit.weight == 0.25  # three of five


def test_a_gradient_scaler_that_only_skips_ends_the_run():
    text = r"in 3 steps in a row up to step 3 with precision 16-mixed\. float16 ends at 65504"
    with pytest.raises(NonFiniteError, match=text):
        fit([1.0, math.nan, math.nan, math.nan, 1.0], patience=3, plugins=scaled())
    assert fit.weight == 0.75


def test_refuses_no_patience():
    with pytest.raises(SettingError, match="patience must be at least 1, got 0"):
        FiniteGradients(0)
