"""Write a policy, or what of it can be exported, and prove that the file answers as the policy does."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Generator, Tensor, nn

import vla_kit
from vla_kit.actions import MaskedActions
from vla_kit.errors import ExportError, SettingError, ShapeError
from vla_kit.export.choose import context_graph
from vla_kit.export.contexts import ContextGraph
from vla_kit.export.graphs import HeadGraph, PolicyGraph
from vla_kit.export.programs import open_onnx, open_torch, trace, write_onnx, write_torch
from vla_kit.policy import Policy, PolicyObservation
from vla_kit.policy.folder import whole_or_nothing
from vla_kit.policy.prediction import draw_noise, read_context

__all__ = ["Exported", "Format", "export_policy"]

Format = Literal["torch", "onnx"]
"""`torch`: a `.pt2` of `torch.export`. `onnx`: a file of ONNX, checked with onnxruntime."""

_SUFFIX: Final[dict[Format, str]] = {"torch": "pt2", "onnx": "onnx"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What became of an export.

    Args:
        part: `policy`, or `head` where the backbone was left out.
        file: The program.
        largest_difference: Between its actions and the policy's, in normalised actions, of which [-1, 1] spans the
            quantiles of the training data.
        any_length: Axes that may have any length.
        left_out: Part -> why it is not in the file.
        notes: Why further axes are fixed.
    """

    part: Literal["policy", "head"]
    file: Path
    largest_difference: float
    any_length: tuple[str, ...]
    left_out: Mapping[str, str]
    notes: Sequence[str]


def export_policy(
    policy: Policy,
    observations: Sequence[PolicyObservation],
    folder: str | Path,
    *,
    format: Format = "torch",
    tolerance: float = 1e-4,
    source: str = "given by the caller",
) -> Exported:
    """Write a policy for one robot as a program: pictures, token ids and noise in, native actions out.

    The folder gets `policy.pt2` or `policy.onnx`, `export.json` with names, shapes and dtypes of what goes in and comes
    out, and `example.safetensors` with the observations as such inputs and the policy's own answer. A backbone that
    cannot be traced, or whose operations ONNX does not know, is left out: `head.pt2` or `head.onnx` takes its context
    in its place. Prompt, tokenizer and resizing stay outside in any case.

    The file is loaded again and asked: all observations in one batch and, where the batch may have any size, each of
    them alone. Nothing is left where it answers otherwise than `Policy.act` with the same noise.

    Args:
        policy: On the CPU.
        observations: Of one robot, with the same views; their pictures and words are what the answers are compared on.
        folder: Not there yet, or empty.
        format: Kind of the program.
        tolerance: Largest difference, in normalised actions, of which [-1, 1] spans the quantiles of the training data.
        source: Where the observations come from, in words, for `export.json`.

    Returns:
        What was written.

    Raises:
        ExportError: If answers differ by more than `tolerance`, or not even the head can be exported.
        SettingError: If the observations are of several robots, `format` is unknown, `tolerance` is not above 0 and
            finite, `source` is empty, or the folder has content.
        ShapeError: If there is no observation.
        MissingExtraError: If a library of the extra `export` is missing.
    """
    if format not in _SUFFIX:
        raise SettingError(f"format must be one of {list(_SUFFIX)}, got {format!r}. Choose one.")
    if not 0 < tolerance < math.inf:
        raise SettingError(f"tolerance must be above 0 and finite, got {tolerance}. Rounding alone makes about 1e-6.")
    if not source.strip():
        raise SettingError(f"source must say where the observations come from, got {source!r}. Leave it out.")
    if not observations:
        raise ShapeError("observations must hold at least one observation, got none. Take one from a data set.")
    robots = sorted({observation.embodiment for observation in observations})
    if len(robots) > 1:
        raise SettingError(f"observations must be of one robot, got {robots}. Export once for each of them.")
    seen = [*observations, *observations[:1]] if len(observations) == 1 else list(observations)
    answers = torch.from_numpy(np.stack(policy.act(seen, generator=_generators(seen))))
    head = HeadGraph(policy, embodiment=robots[0])
    with whole_or_nothing(Path(folder)) as partial:
        left_out: dict[str, str] = {}
        graph: HeadGraph | PolicyGraph
        file, samples = partial / f"policy.{_SUFFIX[format]}", len(observations)
        try:
            context, inputs = _whole(policy, head, seen)
            graph = PolicyGraph(context, head)
            with context.traceable():
                inputs, any_length, notes = _write(graph, inputs, file, samples=samples)
        except (ExportError, SettingError) as error:
            left_out["backbone"] = str(error)
            graph, file = head, file.with_stem("head")
            inputs = _after_backbone(policy, head, seen)
            inputs, any_length, notes = _write(graph, inputs, file, samples=samples)
        answers = answers[: len(inputs["noise"])]
        difference = _largest_difference(policy, robots[0], graph, file, inputs, answers, alone="batch" in any_length)
        if not difference <= tolerance:
            raise ExportError(
                f"actions of {file.name} must differ from the policy's by at most {tolerance:g} (in normalised "
                f"actions), got {difference:.3g} on {len(observations)} observations. Raise tolerance where that is "
                "precise enough, as it may be for weights in half precision; otherwise do not use this format."
            )
        part: Literal["policy", "head"] = "head" if left_out else "policy"
        facts = {
            "vla_kit": vla_kit.__version__,
            "part": part,
            "file": file.name,
            "left_out": left_out,
            "fixed_axes": notes,
            "embodiment": robots[0],
            "views": list(seen[0].views),
            "inputs": [_described(name, inputs[name], graph.axes[name], any_length) for name in inputs],
            "output": {
                **_described("actions", answers, graph.axes["noise"], any_length),
                "channels": [
                    {"name": channel.name, "unit": channel.unit, "reference": channel.reference}
                    for channel in policy.prompter.spec(robots[0]).action_space.channels
                ],
            },
            "noise": f"standard normal; the program multiplies it by {policy.temperature:g}",
            "observations": source,
            "largest_difference": difference,
            "tolerance": tolerance,
        }
        (partial / "export.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        example = {name: tensor.contiguous() for name, tensor in inputs.items()} | {"actions": answers}
        save_file(example, str(partial / "example.safetensors"))
    return Exported(
        part=part,
        file=Path(folder) / file.name,
        largest_difference=difference,
        any_length=any_length,
        left_out=left_out,
        notes=notes,
    )


def _generators(observations: Sequence[PolicyObservation]) -> list[Generator]:
    return [Generator().manual_seed(number) for number in range(len(observations))]


def _own_inputs(
    policy: Policy, head: HeadGraph, observations: Sequence[PolicyObservation]
) -> dict[str, Float[Tensor, "batch ..."]]:
    """Noise as `Policy.act` draws it, and native states where the head reads them."""
    mask = torch.ones(len(observations), head.horizon, head.size, dtype=torch.bool)
    noise = draw_noise(mask, _generators(observations))
    if "state" not in head.own_axes:
        return {"noise": noise}
    states = [torch.as_tensor(one.state, dtype=torch.float32) for one in observations]  # `act` has checked them
    return {"state": torch.stack(states), "noise": noise}


def _whole(
    policy: Policy, head: HeadGraph, observations: Sequence[PolicyObservation]
) -> tuple[ContextGraph, dict[str, Tensor]]:
    prepared, _ = policy.prepare(observations)
    context = context_graph(policy.backbone, prepared)
    return context, {**context.arrange(prepared), **_own_inputs(policy, head, observations)}


def _after_backbone(policy: Policy, head: HeadGraph, observations: Sequence[PolicyObservation]) -> dict[str, Tensor]:
    prepared, _ = policy.prepare(observations)
    with torch.no_grad():
        context = read_context(prepared, [one.embodiment for one in observations], backbone=policy.backbone)
    known = {"hidden": context.hidden, "mask": context.mask, "position_ids": context.position_ids}
    return {**known, **_own_inputs(policy, head, observations)}


def _write(
    graph: HeadGraph | PolicyGraph, inputs: dict[str, Tensor], file: Path, *, samples: int
) -> tuple[dict[str, Tensor], tuple[str, ...], list[str]]:
    """Trace and write; the inputs of which the program holds the shapes, the axes of any length, why others are not."""
    program, any_length, notes = trace(graph.eval(), inputs, axes=graph.axes, longest=graph.longest)
    if samples == 1 and "batch" not in any_length:  # the second was there for an axis that is none
        inputs = {name: tensor.narrow(graph.axes[name].index("batch"), 0, 1) for name, tensor in inputs.items()}
        program, any_length, _ = trace(graph, inputs, axes=graph.axes)
    if file.suffix == ".onnx":
        write_onnx(program, inputs, file)
    else:
        write_torch(program, file)
    return inputs, any_length, [*graph.fixed.values(), *notes]


def _largest_difference(
    policy: Policy,
    embodiment: str,
    graph: nn.Module,
    file: Path,
    inputs: Mapping[str, Tensor],
    answers: Float[Tensor, "batch horizon size"],
    *,
    alone: bool,
) -> float:
    """Of the file's answers from the policy's, NaN where one of them is NaN."""
    run = (open_onnx if file.suffix == ".onnx" else open_torch)(file)
    axes: Any = graph.axes
    got = [run(inputs)]
    if alone:
        for row in range(len(answers)):
            one = {name: tensor.narrow(axes[name].index("batch"), row, 1) for name, tensor in inputs.items()}
            got.append(run(one))
    wanted = [answers, *(answers.split(1) if alone else ())]
    scaled = [_scaled(policy, embodiment, torch.cat(both)) for both in (got, wanted)]
    return float((scaled[0] - scaled[1]).abs().max())


def _scaled(
    policy: Policy, embodiment: str, native: Float[Tensor, "batch horizon size"]
) -> Float[Tensor, "batch horizon size"]:
    rows = MaskedActions(native, torch.ones(native.shape, dtype=torch.bool))
    return policy.normalizer.normalize(rows, [embodiment] * len(native), clip=False).values


def _described(name: str, tensor: Tensor, axes: Sequence[str], any_length: Sequence[str]) -> dict[str, Any]:
    shape = [axis if axis in any_length else size for axis, size in zip(axes, tensor.shape, strict=True)]
    return {"name": name, "dtype": str(tensor.dtype).removeprefix("torch."), "shape": shape, "axes": list(axes)}
