"""How the public parts of `vla_kit.export` are built."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from contract_cases.backbones import TINY
from contract_cases.embodiment import ARM
from contract_cases.policy import parts
from contract_cases.probe import Case
from torch.export import ExportedProgram

from vla_kit.backbones.timm_vit import TimmBackbone
from vla_kit.backbones.tiny import tiny_qwen3_vl
from vla_kit.export.choose import context_graph
from vla_kit.export.graphs import HeadGraph, PolicyGraph
from vla_kit.export.patches import Patches
from vla_kit.export.programs import open_onnx, open_torch, trace, write_onnx, write_torch
from vla_kit.export.qwen import QwenGraph
from vla_kit.export.timm import TimmGraph
from vla_kit.export.write import export_policy
from vla_kit.policy import Policy, PolicyObservation


@functools.cache
def policy() -> Policy:
    backbone = TimmBackbone("test_vit", corpus=[], view_tags=["ego"], image_size=32, width=32, text_layers=1)
    return Policy(**parts() | {"backbone": backbone})


@functools.cache
def qwen_policy() -> Policy:
    backbone = tiny_qwen3_vl(**TINY | {"row_tokens": None, "history": "images"})
    return Policy(**parts() | {"backbone": backbone})


class Still(torch.nn.Module):
    """The velocity that leaves the noise where it is."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, noisy: torch.Tensor, _time: Any, _context: Any, mask: torch.Tensor) -> torch.Tensor:
        return torch.where(mask, self.weight * noisy, 0)


@functools.cache
def still_policy() -> Policy:
    return Policy(**parts() | {"head": Still(), "state_normalizer": None})


def observations(frames: int | None = None) -> list[PolicyObservation]:
    view = np.zeros((32, 32, 3) if frames is None else (frames, 32, 32, 3), dtype=np.uint8)
    state = np.zeros(2, dtype=np.float32)
    given = {"embodiment": ARM.name, "instruction": "push", "state": state, "frame_rate_hz": 2.0}
    return [PolicyObservation(views={"ego": view}, **given)]


class Double(torch.nn.Module):
    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        return 2 * noise


@functools.cache
def program() -> ExportedProgram:
    return trace(Double(), inputs(), axes={"noise": ("batch", "size")})[0]


def inputs() -> dict[str, torch.Tensor]:
    return {"noise": torch.zeros(2, 3)}


def torch_file(folder: Path) -> Path:
    write_torch(program(), folder / "program.pt2")
    return folder / "program.pt2"


def onnx_file(folder: Path) -> Path:
    write_onnx(program(), inputs(), folder / "program.onnx")
    return folder / "program.onnx"


def prepared(owner: Policy) -> dict[str, Any]:
    return owner.prepare(observations())[0]


CASES = [
    Case(HeadGraph, lambda folder: {"policy": policy(), "embodiment": "arm"}),
    Case(
        Patches,
        lambda folder: {
            "patch_size": 8,
            "merge_size": 2,
            "temporal_patch_size": 2,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
        },
    ),
    Case(
        PolicyGraph,
        lambda folder: {
            "context": context_graph(policy().backbone, prepared(policy())),
            "head": HeadGraph(policy(), embodiment="arm"),
        },
    ),
    Case(
        QwenGraph,
        lambda folder: {"backbone": qwen_policy().backbone, "prepared": prepared(qwen_policy())},
        named={"prepared": "observations"},
    ),
    Case(
        TimmGraph,
        lambda folder: {"backbone": policy().backbone, "prepared": prepared(policy())},
        named={"prepared": "observations"},
    ),
    Case(
        export_policy,
        lambda folder: {
            "policy": still_policy(),  # whose backbone no graph can hold, so that the head alone is traced
            "observations": observations(frames=2),
            "folder": str(folder / "exported"),
            "format": "torch",
            "tolerance": 1e-4,
            "source": "a test",
        },
    ),
    Case(open_onnx, lambda folder: {"path": onnx_file(folder)}),
    Case(open_torch, lambda folder: {"path": torch_file(folder)}),
    Case(
        write_onnx,
        lambda folder: {"program": program(), "inputs": inputs(), "path": folder / "program.onnx"},
        meant={"path": ("missing",), "inputs": ("empty",)},  # the program knows its inputs
    ),
    Case(
        write_torch,
        lambda folder: {"program": program(), "path": folder / "program.pt2"},
        meant={"path": ("missing",)},
    ),
]
WITHOUT_CASE: dict[str, str] = {"vla_kit.export.write.Exported": "what export_policy answers"}
