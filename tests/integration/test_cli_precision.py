"""Weights of half precision, through the command line."""

import torch

from vla_kit.cli import VLACLI
from vla_kit.training.finite_gradients import FiniteGradients
from vla_kit.training.half_weights import HalfWeights


def test_true_bfloat16_trains_on_data_that_keep_their_float32(stacked):
    arguments = ["--trainer.precision=bf16-true", "--trainer.fast_dev_run=true"]
    command = VLACLI([*stacked("fit", "stage3_sft.yaml"), *arguments])
    assert command.trainer.global_step == 1
    assert {parameter.dtype for parameter in command.model.head.parameters()} == {torch.bfloat16}
    plugin = command.trainer.precision_plugin
    assert isinstance(plugin, HalfWeights)
    batch = {"position": torch.tensor([1.234])}
    assert plugin.convert_input(batch)["position"].dtype == torch.float32
    assert any(isinstance(callback, FiniteGradients) for callback in command.trainer.callbacks)
