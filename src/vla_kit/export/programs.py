"""Graphs as programs: traced by `torch.export`, written as `.pt2` or `.onnx`, and run again."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from vla_kit.errors import DataError, ExportError, MissingExtraError

__all__ = ["open_onnx", "open_torch", "trace", "write_onnx", "write_torch"]

_MOST_SAMPLES: Final = 1024


def trace(
    graph: nn.Module,
    inputs: Mapping[str, Tensor],
    *,
    axes: Mapping[str, Sequence[str]],
    longest: Mapping[str, int] | None = None,
) -> tuple[ExportedProgram, tuple[str, ...], list[str]]:
    """Trace a graph with as many axes of any length as it allows: batch and words, the batch alone, none.

    Args:
        graph: Takes `inputs` by name.
        inputs: An example; at least two samples, for an axis of one cannot be told from a constant.
        axes: Input -> names of its axes.
        longest: Axis beside `batch` that may be of any length -> its largest one.

    Returns:
        The program, the axes of any length, and why others are fixed.

    Raises:
        ExportError: If it cannot be traced at all.
    """
    limits = {"batch": _MOST_SAMPLES, **(longest or {})}
    notes: list[str] = []
    for variable in dict.fromkeys((tuple(limits), ("batch",), ())):
        named = {name: Dim(name, min=1, max=limits[name]) for name in variable}
        shapes = {key: {place: named[axis] for place, axis in enumerate(axes[key]) if axis in named} for key in inputs}
        try:
            with torch.no_grad(), _with_signature(graph, list(inputs)):
                program = torch.export.export(graph, (), dict(inputs), dynamic_shapes=shapes, strict=False)
        except Exception as error:  # whatever a network does that a trace cannot hold
            reason = f"{type(error).__name__}: {_first_line(error)}"
            notes.append(f"{' and '.join(variable)} of any length: {reason}" if variable else reason)
            continue
        return program, variable, notes
    raise ExportError(f"graph must be one that torch.export can trace, got {notes[-1]}. Export parts of it.")


def write_torch(program: ExportedProgram, path: Path) -> None:
    """Write a program as `.pt2`; the file is whole or not there."""
    with _moved_when_whole(path) as partial:
        torch.export.save(program, partial)


def open_torch(path: Path) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """Load a `.pt2`, which anybody may do who has PyTorch.

    Raises:
        DataError: If the file is missing or broken.
    """
    try:
        program = torch.export.load(path).module()
    except Exception as error:  # whatever torch gives for bytes that are no program
        raise _unreadable(path, error, kind=".pt2 of torch.export") from error

    def run(inputs: Mapping[str, Tensor]) -> Tensor:
        with torch.no_grad():
            output: Tensor = program(**inputs)
        return output

    return run


def write_onnx(program: ExportedProgram, inputs: Mapping[str, Tensor], path: Path) -> None:
    """Write a program as `.onnx`; the file is whole or not there.

    Args:
        program: What `trace` made.
        inputs: Its example.
        path: File.

    Raises:
        ExportError: If an operation has no counterpart in ONNX.
        MissingExtraError: If onnx or onnxscript is not installed.
    """
    try:
        import onnxscript  # noqa: F401 (what torch.onnx needs)
    except ImportError as error:
        raise MissingExtraError("onnxscript", extra="export") from error
    try:
        with torch.no_grad():
            written = torch.onnx.export(
                program, (), kwargs=dict(inputs), dynamo=True, verbose=False, output_names=["actions"]
            )
    except Exception as error:  # whatever torch.onnx does not know
        raise ExportError(
            f"program must hold operations of ONNX alone, got {type(error).__name__}: {_first_line(error)}. "
            "Use format torch."
        ) from error
    if written is None:
        raise ExportError("program must hold operations of ONNX alone, got nothing from torch.onnx. Use format torch.")
    with _moved_when_whole(path) as partial:
        written.save(partial)


def open_onnx(path: Path) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """Load an `.onnx` into onnxruntime, on the CPU.

    Raises:
        DataError: If the file is missing or broken.
        MissingExtraError: If onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", extra="export") from error
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # whatever onnxruntime gives for bytes that are no program
        raise _unreadable(path, error, kind=".onnx") from error
    known = {entry.name for entry in session.get_inputs()}

    def run(inputs: Mapping[str, Tensor]) -> Tensor:
        feeds = {name: np.ascontiguousarray(tensor.cpu().numpy()) for name, tensor in inputs.items() if name in known}
        return torch.from_numpy(session.run(None, feeds)[0])

    return run


@contextmanager
def _moved_when_whole(path: Path) -> Iterator[Path]:
    """The same name in a folder beside; what is written there is moved to its place at the end, if that comes."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        yield Path(folder) / path.name
        for file in sorted(Path(folder).iterdir(), reverse=True):  # large weights, in a file of their own, come first
            file.replace(path.with_name(file.name))


@contextmanager
def _with_signature(graph: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """Give `forward` its inputs as parameters of their own: programs do not check their sizes behind `**inputs`."""
    inner = graph.forward
    signature = Signature([Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in names])

    def forward(*args: Tensor, **kwargs: Tensor) -> Any:  # noqa: ANN401 (whatever the graph returns)
        return inner(**signature.bind(*args, **kwargs).arguments)

    forward.__signature__ = signature  # type: ignore[attr-defined]  # functions may have it
    vars(graph)["forward"] = forward
    try:
        yield
    finally:
        del vars(graph)["forward"]


def _unreadable(path: Path, error: Exception, *, kind: str) -> DataError:
    found = f"{type(error).__name__}: {_first_line(error)}" if path.is_file() else "no such file"
    return DataError(f"path must be a whole {kind}, got {path}: {found}. Export the policy again.")


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")[:200]
