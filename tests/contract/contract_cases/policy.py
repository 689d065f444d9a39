"""How the public parts of `vla_kit.policy` are built."""

import functools
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from contract_cases.actions import SPACE, STATS
from contract_cases.backbones import qwen, shared_qwen
from contract_cases.embodiment import ARM
from contract_cases.heads import SIZES
from contract_cases.probe import Case
from contract_cases.protocols import read_by
from huggingface_hub.utils import validate_repo_id

from vla_kit.actions import EigengraspBasis, QuantileNormalizer, StopRule
from vla_kit.embodiment import EmbodimentPrompter, History
from vla_kit.flow import Euler, HardPrefix
from vla_kit.heads import DiTHead, StateTokenHead
from vla_kit.policy import (
    ChunkExecutor,
    ChunkPrefix,
    EnsembleExecutor,
    FrameHistory,
    Policy,
    PolicyObservation,
    RealTimeExecutor,
    WaypointExecutor,
    WaypointPolicy,
)
from vla_kit.policy.description import build, describe
from vla_kit.policy.folder import read_policy, whole_or_nothing, write_policy
from vla_kit.policy.hub import upload_policy
from vla_kit.policy.place import local_policy
from vla_kit.policy.weights import read_weights


def parts() -> dict[str, Any]:
    """Arguments of a small policy."""
    states = QuantileNormalizer({"arm": STATS}, spaces={"arm": SPACE})
    return {
        "backbone": shared_qwen(),
        "head": StateTokenHead(DiTHead(**SIZES), state_channels=6),
        "prompter": EmbodimentPrompter([ARM]),
        "normalizer": QuantileNormalizer({"arm": STATS}, spaces={"arm": SPACE}),
        "solver": Euler(steps=2),
        "channels": 4,
        "temperature": 0.5,
        "state_normalizer": states,
        "inpainting": HardPrefix(),
        "hand_basis": EigengraspBasis(torch.zeros(45), torch.eye(45)[:10]),
    }


policy = functools.cache(lambda: Policy(**parts()))


def saved(folder: Path) -> Path:
    policy().save(folder / "policy")
    return folder / "policy"


def described(folder: Path) -> dict[str, Any]:
    return describe(shared_qwen(), folder=folder, name="backbone")


@wraps(write_policy)
def written_by_policy(folder: Path, **given: Any) -> None:
    Policy(**given).save(folder)  # which refuses wrong settings before it writes


@wraps(whole_or_nothing)
def written(**given: Any) -> None:
    with whole_or_nothing(**given) as partial:
        (partial / "file").write_text("content")


class Hub:
    """The client of the hub, as far as it looks at its arguments before it connects."""

    def __init__(self, token: str | None) -> None:
        pass

    def create_repo(self, repo_id: str, **settings: Any) -> None:
        validate_repo_id(repo_id)

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> Any:
        if not Path(folder_path).is_dir():
            raise ValueError(f"Provided path: '{folder_path}' is not a directory")
        return type("Commit", (), {"commit_url": "https://hub.invalid/commit"})


@wraps(upload_policy)
def uploaded(*arguments: Any, **given: Any) -> str:
    with patch("vla_kit.policy.hub.HfApi", Hub):
        return upload_policy(*arguments, **given)


CASES = [
    Case(ChunkExecutor, lambda folder: {"replan_every": 2}),
    Case(ChunkPrefix, lambda folder: {"actions": np.zeros((3, 2)), "delay": 1}, meant={"delay": ("0",)}),
    Case(EnsembleExecutor, lambda folder: {"space": SPACE, "replan_every": 1, "decay": 0.01}),
    Case(
        FrameHistory,
        lambda folder: {"history": History(frames=2, rate_hz=2.0), "control_hz": 10.0},
        named={"control_hz": "recorded"},
    ),
    Case(Policy, lambda folder: parts()),
    Case(
        Policy.load,
        lambda folder: {
            "folder": saved(folder),
            "device": "cpu",
            "temperature": 0.5,
            "revision": None,
            "allowed": [dict],
        },
        meant={"allowed": ("empty",)},
    ),
    Case(
        read_by(PolicyObservation, lambda one: policy().act([one])),
        lambda folder: {
            "embodiment": "arm",
            "instruction": "push",
            "views": {"ego": np.zeros((2, 32, 32, 3), dtype=np.uint8)},
            "state": np.zeros(2, dtype=np.float32),
            "frame_rate_hz": 2.0,
        },
        meant={"views": ("empty",)},
    ),
    Case(RealTimeExecutor, lambda folder: {"replan_every": 3, "delay": 1}, meant={"delay": ("0",)}),
    Case(WaypointExecutor, lambda folder: {"replan_every": 2, "reading": "from_start", "stop": StopRule()}),
    Case(WaypointPolicy, lambda folder: {"policy": policy(), "reading": "from_start", "stop": StopRule()}),
    Case(
        build,
        lambda folder: {"description": described(folder), "folder": folder, "allowed": [dict]},
        meant={"allowed": ("empty",)},
        named={"description": "described"},
    ),
    Case(
        describe,
        lambda folder: {"part": shared_qwen(), "folder": folder, "name": "backbone"},
        meant={"folder": ("missing",), "name": ("empty",)},  # the folder itself
    ),
    Case(
        local_policy,
        lambda folder: {"source": folder, "revision": "main"},
        meant={"revision": ("empty",)},  # of ids of the hub alone
        named={"source": "folder"},
    ),
    Case(
        read_policy,
        lambda folder: {"folder": saved(folder), "device": "cpu", "allowed": [dict]},
        meant={"allowed": ("empty",)},
    ),
    Case(
        read_weights,
        lambda folder: {
            "modules": torch.nn.ModuleDict({"backbone": qwen(), "head": parts()["head"]}),
            "path": saved(folder) / "model.safetensors",
        },
        named={"path": "weights"},
    ),
    Case(
        uploaded,
        lambda folder: {
            "folder": saved(folder),
            "repo_id": "owner/name",
            "private": True,
            "token": None,
            "message": "Upload",
        },
    ),
    Case(written, lambda folder: {"target": folder / "policy"}, meant={"target": ("missing",)}),
    Case(
        written_by_policy,
        lambda folder: {"folder": folder / "policy", **parts()},
        meant={"folder": ("missing",)},
    ),
]
WITHOUT_CASE: dict[str, str] = {}
