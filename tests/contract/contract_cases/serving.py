"""How the public parts of `vla_kit.serving` are built."""

import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch
from contract_cases.probe import Case

from vla_kit.actions import QuantileNormalizer, QuantileStats
from vla_kit.backbones.tiny import tiny_qwen3_vl
from vla_kit.embodiment import EmbodimentPrompter, preset
from vla_kit.errors import MissingExtraError
from vla_kit.flow import Euler
from vla_kit.heads import DiTHead
from vla_kit.policy import Policy
from vla_kit.serving.batcher import Batcher
from vla_kit.serving.observation_keys import ObservationKeys, ObservationReader
from vla_kit.serving.rate_limit import RateLimit

sys.path.insert(0, str(Path(__file__).parents[2] / "unit" / "serving"))

from fake_policy import FakePolicy


@cache
def saved_policy() -> tuple[Path, object]:
    """A small policy on disk, saved once, and what keeps its folder."""
    keeper = tempfile.TemporaryDirectory()
    robot = preset("metaworld_sawyer")
    stats = QuantileStats(q01=-torch.ones(4), q99=torch.ones(4))
    policy = Policy(
        tiny_qwen3_vl(
            corpus=["push"], view_tags=["cam_high"], image_size=32, hidden=32, vision_layers=1, text_layers=1
        ),
        head=DiTHead(context_width=32, channels=8, width=16, depth=1, num_heads=2, mlp_hidden=16),
        prompter=EmbodimentPrompter([robot]),
        normalizer=QuantileNormalizer({robot.name: stats}, spaces={robot.name: robot.action_space}),
        solver=Euler(steps=1),
        channels=8,
    )
    policy.save(Path(keeper.name) / "policy")
    return Path(keeper.name) / "policy", keeper


def _on_batch(size: int, seconds: float) -> None:
    pass


def _keys() -> list[ObservationKeys]:
    return [ObservationKeys(embodiment="arm")]


CASES = [
    Case(
        Batcher,
        lambda folder: {
            "act": FakePolicy().act,
            "max_batch": 8,
            "max_wait_ms": 5.0,
            "max_queue": 64,
            "on_batch": _on_batch,
        },
    ),
    Case(
        ObservationKeys,
        lambda folder: {
            "embodiment": "arm",
            "views": {"cam_high": "images/front"},
            "instruction": "prompt",
            "default_instruction": "push",
            "state": "observation/state",
        },
    ),
    Case(
        ObservationReader,
        lambda folder: {"robots": _keys(), "state_sizes": {"arm": 2}, "max_pixels": 4096},
        meant={"state_sizes": ("empty",)},  # the policy reads no state
    ),
    Case(RateLimit, lambda folder: {"rate_hz": 2.0, "clock": time.monotonic}),
]

WITHOUT_CASE = {"vla_kit.serving.batcher.Answer": "what a request gets"}

with suppress(MissingExtraError):
    from vla_kit.serving.metrics import ServingMetrics
    from vla_kit.serving.server import PolicyServer

    CASES += [
        Case(ServingMetrics, lambda folder: {}),
        Case(
            PolicyServer,
            lambda folder: {
                "policy": FakePolicy(),
                "robots": _keys(),
                "token": "a secret of many characters",
                "max_batch": 8,
                "max_wait_ms": 5.0,
                "max_queue": 64,
                "max_connections": 64,
                "max_message_mb": 16.0,
                "max_rate_hz": 100.0,
                "warm_up_size": 224,
                "shutdown_s": 30.0,
            },
        ),
    ]

with suppress(MissingExtraError):
    from vla_kit.serving.vla_eval_server import VLAEvalServer

    CASES += [
        Case(
            VLAEvalServer,
            lambda folder: {
                "checkpoint": str(saved_policy()[0]),
                "embodiment": "metaworld_sawyer",
                "views": {"cam_high": "agentview"},
                "state": "states",
                "device": "cpu",
                "chunk_size": 4,
                "action_ensemble": "newest",
                "max_batch_size": 2,
                "max_wait_time": 0.01,
                "warm_up_size": 32,
            },
            named={"checkpoint": "folder"},
        ),
    ]
