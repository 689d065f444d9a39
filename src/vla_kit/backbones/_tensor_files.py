"""Tensors on the disk, found by a digest of what they were computed from."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vla_kit.errors import DataError

__all__ = ["digest", "precision", "read_tensors", "write_tensors"]


def digest(*tensors: Tensor, text: str = "") -> str:
    """Hexadecimal digest of bytes, shapes and dtypes of tensors, and of a text."""
    found = hashlib.blake2b(text.encode(), digest_size=16)
    for tensor in tensors:
        found.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def precision(device: torch.device) -> str:
    """Dtype of autocast on a device; empty where it is off."""
    return str(torch.get_autocast_dtype(device.type)) if torch.is_autocast_enabled(device.type) else ""


def read_tensors(file: Path, *, needed: Sequence[str], device: str = "cpu") -> dict[str, Tensor]:
    """Read what `write_tensors` wrote, or say which file is broken."""
    try:
        tensors: dict[str, Tensor] = load_file(file, device=device)
    except (SafetensorError, OSError) as error:
        raise DataError(f"file must be a whole safetensors file, got {file}: {error}. Delete it.") from error
    if not tensors.keys() >= set(needed):
        raise DataError(f"file must hold the tensors {list(needed)}, got {file} with {sorted(tensors)}. Delete it.")
    return tensors


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file; a reader sees the whole file or none."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}")
    try:
        save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, partial)
        os.replace(partial, file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
