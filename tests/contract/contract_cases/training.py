"""How the public parts of `vla_kit.training` are built."""

import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from contract_cases.probe import Case
from contract_cases.serving import saved_policy
from torch import nn

from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.envs.places import InThisProcess
from vla_kit.flow import StochasticEuler
from vla_kit.losses import ClippedValueLoss, PPOLoss
from vla_kit.training.atomic_checkpoint import AtomicCheckpointIO
from vla_kit.training.attention_kernel import AttentionKernel
from vla_kit.training.compile_head import CompileHead
from vla_kit.training.demonstrations import DemonstrationDataModule
from vla_kit.training.difficulty import DifficultyShares
from vla_kit.training.final_checkpoint import FinalCheckpoint
from vla_kit.training.finite_gradients import FiniteGradients
from vla_kit.training.flow_ppo import FlowPPOModule
from vla_kit.training.gradient_balance import GradientBalance, KeepRatio
from vla_kit.training.half_weights import HalfWeights
from vla_kit.training.policy_checkpoint import load_policy
from vla_kit.training.rollouts import RolloutDataModule
from vla_kit.training.run_status import RunStatus
from vla_kit.training.schedule import Schedule
from vla_kit.training.sharding import ShardedStrategy
from vla_kit.training.step_seed import StepSeed
from vla_kit.training.text_cache import TextCache
from vla_kit.training.text_to_action import TextToActionDataModule
from vla_kit.training.vla_module import VLAModule
from vla_kit.training.warm_start import WarmStart, load_weights

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "training"))

from rl_parts import model_parts


@cache
def _parts() -> dict[str, Any]:
    return model_parts()


def _same(head: nn.Module) -> nn.Module:
    return head


def _vla(**more: object) -> dict[str, object]:
    return {
        **_parts(),
        "backbone_learning_rate": 1e-5,
        "head_learning_rate": 1e-4,
        "backbone_warmup_steps": 10,
        "head_warmup_steps": 10,
        "final_learning_rate": 0.1,
        "weight_decay": 0.01,
        "betas": (0.9, 0.95),
        "freeze": ["backbone"],
        "sample_in_validation": True,
        "state_normalizer": None,
        "head_wrapper": _same,
        "hand_basis": None,
    } | more


def _sets() -> list[DemonstrationSet]:
    return [DemonstrationSet(root="reach", embodiment="metaworld_sawyer", views={"cam_high": "top"})]


def _loading() -> dict[str, object]:
    return {
        "sets": _sets(),
        "batch_size": 8,
        "samples_per_epoch": 100,
        "shares": None,
        "validation_share": 0.1,
        "num_workers": 1,
        "open_sets": 4,
        "seed": 1,
    }


def _checkpoint(folder: Path) -> Path:
    path = folder / "last.ckpt"
    torch.save({"state_dict": VLAModule(**_parts()).state_dict()}, path)
    return path


_DOT = {"id": "toy/Dot-v0", "embodiment": "dot", "views": {"cam": "render"}, "rate_hz": 10, "sentences": ["go"]}

CASES = [
    Case(AtomicCheckpointIO, lambda folder: {}),
    Case(CompileHead, lambda folder: {}),
    Case(ShardedStrategy, lambda folder: {}),
    Case(AttentionKernel, lambda folder: {"kernel": "math"}),
    Case(
        DemonstrationDataModule,
        lambda folder: {
            **_loading(),
            "conversations": [],
            "validation_stride": 4,
            "augment": None,
            "hand_mirror": None,
        },
        meant={"num_workers": ("0",), "seed": ("0",)},  # loads in this process
    ),
    Case(
        TextToActionDataModule,
        lambda folder: {**_loading(), "horizon": 32},
        meant={"num_workers": ("0",), "seed": ("0",)},  # loads in this process
    ),
    Case(DifficultyShares, lambda folder: {"smoothing": 0.5, "least": 0.1}),
    Case(
        FinalCheckpoint,
        lambda folder: {"path": "runs/checkpoints/last.ckpt", "every_n_train_steps": 500},
        meant={"every_n_train_steps": ("0",)},  # nobody else writes there
    ),
    Case(FiniteGradients, lambda folder: {"patience": 25}),
    Case(
        VLAModule,
        lambda folder: _vla(),
        meant={
            "backbone_warmup_steps": ("0",),  # no warm-up
            "head_warmup_steps": ("0",),
            "freeze": ("empty",),  # all learns
        },
    ),
    Case(
        FlowPPOModule,
        lambda folder: {
            **_vla(),
            "sampler": StochasticEuler(steps=2, stochastic_steps="all"),
            "policy_loss": PPOLoss(),
            "value_loss": ClippedValueLoss(),
            "value_weight": 1.0,
            "value_learning_rate": 1e-4,
            "value_head": None,
            "noise_head": None,
            "epochs": 4,
            "minibatch_size": 16,
            "advantages": "gae",
            "discount": 0.99,
            "trace": 0.95,
            "bootstrap_at_timeout": True,
            "temperature": 1.0,
            "gradient_clip": 1.0,
            "target_kl": 0.1,
            "seed": 1,
        },
        meant={
            "gradient_clip": ("inf",),  # nothing is clipped
            "target_kl": ("inf",),  # all epochs are taken
            "seed": ("0",),
        },
    ),
    Case(GradientBalance, lambda folder: {"every_n_steps": 100, "rule": KeepRatio()}),
    Case(KeepRatio, lambda folder: {"ratio": 1.0, "share": 0.1}),
    Case(HalfWeights, lambda folder: {"precision": "bf16-true"}),
    Case(
        load_policy,
        lambda folder: {"checkpoint": saved_policy()[0], "device": "cpu", "temperature": 1.0},
        named={"checkpoint": "folder"},  # without the ending .ckpt, that of Policy.save is looked for
    ),
    Case(load_weights, lambda folder: {"module": VLAModule(**_parts()), "checkpoint": _checkpoint(folder)}),
    Case(
        WarmStart,
        lambda folder: {"checkpoint": "runs/t2a/checkpoints/last.ckpt"},
        meant={"checkpoint": ("empty",)},  # load_weights refuses it when the run begins
    ),
    Case(
        RolloutDataModule,
        lambda folder: {
            "tasks": ["metaworld/reach"],
            "envs": [{"class_path": "vla_kit.envs.gymnasium_env.GymnasiumEnv", "init_args": _DOT}],
            "episodes": 4,
            "tries": 2,
            "environments": 2,
            "place": InThisProcess(),
            "replan_every": 4,
            "image_size": 32,
            "shares": DifficultyShares(),
            "seed": 1,
        },
        meant={"tasks": ("empty",), "envs": ("empty",), "seed": ("0",)},  # one of the two is enough
    ),
    Case(RunStatus, lambda folder: {"every_n_steps": 50}),
    Case(
        Schedule,
        lambda folder: {"warmup_steps": 2, "total_steps": 10.0, "final": 0.1},
        meant={"warmup_steps": ("0",), "total_steps": ("inf",)},  # no warm-up; a run without an end keeps the peak
    ),
    Case(StepSeed, lambda folder: {"seed": 1}, meant={"seed": ("0",)}),
    Case(TextCache, lambda folder: {"folder": "cache/text"}),
]

_FILLED = "a record that a rollout fills"
WITHOUT_CASE = {
    "vla_kit.cli.VLACLI": "reads and runs a command line; its files: tests/contract/test_broken_files_runs.py",
    "vla_kit.training.actor.Actor": "built by FlowPPOModule.actor from settings that the module has checked",
    "vla_kit.training.drawn_chunk.DrawnChunk": _FILLED,
    "vla_kit.training.rollout.PlannedEpisode": _FILLED,
    "vla_kit.training.rollout.PlayedChunk": _FILLED,
    "vla_kit.training.rollout.PlayedEpisode": _FILLED,
    "vla_kit.training.rollout.RolloutSeconds": _FILLED,
    "vla_kit.training.rollout_batch.RolloutBatch": "lined up by RolloutBatch.of from the episodes of a rollout",
}
