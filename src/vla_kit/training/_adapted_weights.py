"""Weights of a plain model under the names that they have in a model with LoRA."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from torch import Tensor

from vla_kit.errors import CheckpointError

__all__ = ["with_adapters"]

_BASE: Final = ".base_layer."
_SHOWN: Final = 6


def with_adapters(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], *, source: str | Path) -> dict[str, Tensor]:
    """Weights under the names of the model: where it has an adapter and the checkpoint has none, one that is new.

    Args:
        theirs: State dict of the checkpoint.
        ours: State dict of the model.
        source: The checkpoint, for the message.

    Returns:
        State dict with the keys of the model wherever the two differ in adapters alone.

    Raises:
        CheckpointError: If the checkpoint has an adapter where the model has none.
    """
    lost = sorted(_adapted(theirs) - _adapted(ours))
    if lost:
        raise CheckpointError(
            f"checkpoint must have adapters only where the module has some, got {source} with {len(lost)} more: "
            f"{', '.join(lost[:_SHOWN])}. Build the module with add_lora as that run did; or load the checkpoint "
            "there, call vla_kit.backbones.lora.merge_lora(module.backbone), and save "
            "{'state_dict': module.state_dict()}."
        )
    new = _adapted(ours) - _adapted(theirs)
    renamed = {f"{name}.{leaf}": f"{name}{_BASE}{leaf}" for name, leaf in _base_weights(ours) if name in new}
    weights = {renamed.get(key, key): value for key, value in theirs.items()}
    for key in ours.keys() - weights.keys():
        name = next((name for name in _parents(key) if name in new), None)
        if name is None or key.startswith(f"{name}{_BASE}"):
            continue
        embedding = weights.get(f"{name}{_BASE}weight")
        if key == f"{name}.rows" and embedding is not None and len(embedding) == len(ours[f"{name}{_BASE}weight"]):
            weights[key] = embedding[ours[f"{name}.token_ids"].cpu()]
        else:
            weights[key] = ours[key]
    return weights


def _base_weights(state: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """Name of every module with an adapter, and of each weight beneath the adapter."""
    return [(name, leaf) for name, found, leaf in (key.rpartition(_BASE) for key in state) if found]


def _adapted(state: Mapping[str, Tensor]) -> set[str]:
    """Modules with an adapter: LoRA's and learned rows keep the weights that they stand beside as `base_layer`."""
    return {name for name, _ in _base_weights(state)}


def _parents(key: str) -> list[str]:
    parts = key.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]
