"""`vla_kit.evaluation.closed_loop` within a training: what is logged, and that the training does not notice."""

import random
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import FSDPStrategy
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))

from corridor import Corridor

from vla_kit.actions import QuantileStats
from vla_kit.errors import SettingError
from vla_kit.evaluation import EvaluationTask, SuccessCount, read_curve
from vla_kit.evaluation.closed_loop import ClosedLoop, undisturbed
from vla_kit.training.demonstrations import DemonstrationDataModule
from vla_kit.training.step_seed import StepSeed
from vla_kit.training.vla_module import VLAModule


class ArmCorridor(Corridor):
    """Looks and moves as the robot of the data does; uses up random numbers."""

    embodiment, view_tags = "arm", ("cam",)
    action_low, action_high = -np.ones(2), np.ones(2)

    def look(self):
        np.random.rand()  # noqa: NPY002 (the generator that others share)
        random.random()
        torch.rand(1)
        return {"cam": np.full((32, 32, 3), 20 * self.taken, dtype=np.uint8)}


class Losses(Callback):
    def __init__(self):
        self.values, self.modes = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values.append(float(outputs["loss"]))
        self.values.append(float(torch.rand(1)))  # the generator as others find it
        self.modes.append([part.training for part in pl_module.modules()])


@pytest.fixture
def fit(parts, make_set, tmp_path):
    data = make_set("arm")

    def run(callbacks, *, seeded=True, **trainer):
        torch.manual_seed(0)
        module = VLAModule(**parts(), head_learning_rate=1e-2, freeze=["backbone.model.model.visual"])
        losses = Losses()
        fitted = Trainer(
            accelerator="cpu",
            max_steps=5,
            logger=CSVLogger(tmp_path / "logs"),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            limit_val_batches=0,
            callbacks=[*([StepSeed()] if seeded else []), *callbacks, losses],
            **trainer,
        )
        torch.manual_seed(1)
        fitted.fit(module, DemonstrationDataModule(sets=[data], batch_size=2, samples_per_epoch=20))
        return fitted, module, losses

    return run


def closed_loop(**settings):
    callback = ClosedLoop(["metaworld/reach"], workers=0, **{"every_n_steps": 2, "episodes": 3, **settings})
    callback.tasks = [EvaluationTask(name="toy/corridor", make_env=ArmCorridor)]
    return callback


@pytest.mark.parametrize("seeded", [True, False])
def test_training_does_not_notice(seeded, fit):
    """The same losses, weights, modes and random numbers bit for bit, with and without a seed per step."""
    _, plain, expected = fit([], seeded=seeded)
    _, module, losses = fit([closed_loop()], seeded=seeded)
    assert losses.values == expected.values
    assert losses.modes == expected.modes
    assert any(losses.modes[0])
    assert not all(losses.modes[0])  # what is frozen stays in evaluation mode
    for one, other in zip(module.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)


def test_success_is_logged_with_its_interval(fit, tmp_path):
    trainer, _, _ = fit([closed_loop()])
    curves = {
        name: read_curve(tmp_path, f"closed_loop/{name}")
        for name in ("success", "toy/corridor/success", "toy/corridor/low", "toy/corridor/high", "toy/corridor/errors")
    }
    for name, curve in curves.items():
        assert [step for step, _ in curve] == [2, 4], name
    for (_, rate), (_, low), (_, high) in zip(
        *(curves[f"toy/corridor/{x}"] for x in ("success", "low", "high")), strict=True
    ):
        assert 0 <= low <= rate <= high <= 1
    assert curves["success"] == curves["toy/corridor/success"]
    assert float(trainer.callback_metrics["closed_loop/success"]) == pytest.approx(curves["success"][-1][1])


def test_accumulated_batches_are_one_step(fit, monkeypatch):
    asked = []
    callback = closed_loop()
    monkeypatch.setattr(
        callback, "_count", lambda trainer, *rest: asked.append(trainer.global_step) or SuccessCount(1, 2)
    )
    fit([callback], accumulate_grad_batches=2)
    assert asked == [2, 4]


def test_processes_share_the_episodes(module):
    class TwoProcesses(nn.Module):
        def reduce(self, tensor, *, reduce_op):
            seen.append(tensor.tolist())
            return tensor

    seen, callback = [], closed_loop(episodes=5)
    begun = []
    callback.tasks = [EvaluationTask(name="toy", make_env=lambda: Watched(begun))]
    for rank in (0, 1):
        trainer = SimpleNamespace(global_rank=rank, world_size=2, strategy=TwoProcesses())
        module.normalizer.add(
            "arm", QuantileStats(q01=-torch.ones(2), q99=torch.ones(2)), module.prompter.spec("arm").action_space
        )
        callback._count(trainer, module, callback.tasks[0], ())
    assert begun == [1_500_000, 1_500_002, 1_500_004, 1_500_001, 1_500_003]  # no seed of the final evaluation
    assert [count[1] for count in seen] == [3, 2]


class Watched(ArmCorridor):
    def __init__(self, begun):
        super().__init__()
        self.resets = begun


def test_undisturbed_restores_modes_one_by_one_and_every_generator():
    model = nn.Sequential(nn.Linear(1, 1), nn.Dropout())
    model[1].eval()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)  # noqa: NPY002
    expected = random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
    random.seed(0), np.random.seed(0), torch.manual_seed(0)  # noqa: NPY002
    with undisturbed(model):
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
        model.eval()
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected  # noqa: NPY002
    assert [part.training for part in model.modules()] == [True, True, False]


def test_refuses():
    with pytest.raises(SettingError, match="every_n_steps must be at least 1, got 0"):
        closed_loop(every_n_steps=0)
    with pytest.raises(SettingError, match="tasks must name at least one task"):
        ClosedLoop([])
    with pytest.raises(SettingError, match=r"name must be one of .* got 'metaworld/fly'"):
        ClosedLoop(["metaworld/fly"])
    with pytest.raises(SettingError, match="strategy must keep the weights whole in every process, got FSDPStrategy"):
        closed_loop().setup(SimpleNamespace(strategy=FSDPStrategy.__new__(FSDPStrategy)), nn.Module(), "fit")
