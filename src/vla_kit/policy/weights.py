"""Weights of modules in a safetensors file, and what keeps a state from fitting."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vla_kit.errors import CheckpointError

__all__ = ["differences", "read_weights"]

_SHOWN: Final = 6


def differences(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> str:
    """Say in words what of one state does not fit another.

    Args:
        theirs: State to be loaded.
        ours: State of the module that should load it.

    Returns:
        Missing and unknown keys and other shapes, shortened; empty where everything fits.

    Examples:
        >>> import torch
        >>> differences({"a": torch.zeros(2), "c": torch.zeros(1)}, {"a": torch.zeros(3), "b": torch.zeros(1)})
        '1 missing: b; 1 unknown: c; 1 of another shape: a (2,) instead of (3,)'
    """
    found = {
        "missing": sorted(ours.keys() - theirs.keys()),
        "unknown": sorted(theirs.keys() - ours.keys()),
        "of another shape": sorted(
            f"{key} {tuple(theirs[key].shape)} instead of {tuple(ours[key].shape)}"
            for key in ours.keys() & theirs.keys()
            if not key.endswith("_extra_state") and theirs[key].shape != ours[key].shape
        ),
    }
    return "; ".join(f"{len(keys)} {kind}: {_short(keys)}" for kind, keys in found.items() if keys)


def read_weights(modules: nn.Module, path: Path) -> None:
    """Load every tensor of a file, in the precision in which it was saved, or nothing.

    Args:
        modules: Takes the weights. Tied ones stand in the file once.
        path: What `safetensors.torch.save_model` wrote.

    Raises:
        CheckpointError: If the file is broken or does not fit the modules.
    """
    try:
        state = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"weights must be a whole safetensors file, got {path}: {error}. Copy it again."
        ) from error
    tensors = {
        **dict(modules.named_parameters(remove_duplicate=False)),
        **dict(modules.named_buffers(remove_duplicate=False)),
    }
    saved = {id(tensors[key]) for key in tensors.keys() & state.keys()}
    ours = {
        key: value for key, value in modules.state_dict().items() if key in state or id(tensors.get(key)) not in saved
    }
    found = differences(state, ours)
    if found:
        raise CheckpointError(
            f"weights must fit the parts, got {path} with {found}. Take settings and weights from one folder."
        )
    for key in tensors.keys() & state.keys():
        if tensors[key].dtype != state[key].dtype:
            tensors[key].data = tensors[key].data.to(state[key].dtype)
    modules.load_state_dict(state, strict=False)  # compared above; tied weights are missing


def _short(keys: list[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")
