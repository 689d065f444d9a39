"""Training in bfloat16 stays near training in float32."""

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from vla_kit.flow import BetaTime
from vla_kit.losses import FlowMatchingLoss
from vla_kit.training.demonstrations import DemonstrationDataModule
from vla_kit.training.finite_gradients import FiniteGradients
from vla_kit.training.half_weights import HalfWeights
from vla_kit.training.step_seed import StepSeed
from vla_kit.training.vla_module import VLAModule

STEPS = 40


class Losses(Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(float(outputs["loss"]))


@pytest.fixture
def losses(parts, make_set):
    """Losses of a run, which has the same data, noise and first weights whatever its precision."""
    data = make_set("arm", scale=0.3)

    def run(precision, attention="joint"):
        torch.manual_seed(0)
        built = parts() | {"flow_loss": FlowMatchingLoss(BetaTime(), draws=4)}
        built["head"].attention = attention
        module = VLAModule(**built, backbone_learning_rate=1e-3, head_learning_rate=1e-2, head_warmup_steps=5)
        found = Losses()
        trainer = Trainer(
            accelerator="cpu",
            **({"plugins": [HalfWeights(precision)]} if precision == "bf16-true" else {"precision": precision}),
            max_steps=STEPS,
            callbacks=[StepSeed(0), FiniteGradients(), found],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=1,
            num_sanity_val_steps=0,
        )
        trainer.fit(module, DemonstrationDataModule(sets=[data], batch_size=8, samples_per_epoch=8 * STEPS))
        return torch.tensor(found.seen), module

    return run


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["joint", "cached"])
def test_losses_in_bfloat16_stay_near_those_in_float32(losses, attention):
    expected, _ = losses("32-true", attention)
    assert expected[-10:].mean() < 0.95 * expected[:10].mean()  # it learns
    mixed, module = losses("bf16-mixed", attention)
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}
    true, module = losses("bf16-true", attention)
    assert {parameter.dtype for parameter in module.head.parameters()} == {torch.bfloat16}
    for name, found, worst in (
        ("mixed", mixed, 0.06),
        ("true", true, 0.1),
    ):  # twice what was seen; the mean 0.01 at most
        off = (found - expected).abs() / expected
        assert off.max() < worst, f"{name}: {off.max():.3f}"
        assert off.mean() < 0.02, f"{name}: {off.mean():.3f}"
