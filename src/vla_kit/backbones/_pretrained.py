"""What every backbone around a model of transformers does the same way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel

from vla_kit.errors import CheckpointError, SettingError

__all__ = [
    "apply_keeping_rotary",
    "check_layer",
    "check_source",
    "load_model",
    "random_model",
    "refuse_adapters",
    "set_gradient_checkpointing",
]


def check_source(source: str | Path) -> None:
    """Raise if `source` is written as a path and no folder is there: transformers would take it for a hub id."""
    is_path = isinstance(source, Path) or source.startswith(("/", ".", "~"))
    if is_path and not Path(source).is_dir():
        raise CheckpointError(
            f"source must be a folder or a hub id, got {str(source)!r}, which does not exist. "
            "Write one with save_pretrained, or give an id such as 'Qwen/Qwen3.5-4B'."
        )


def load_model(source: str | Path, *, dtype: str, attention: str, revision: str | None) -> PreTrainedModel:
    """Weights of a folder or hub id, in the class that its configuration names."""
    check_source(source)
    return _with_attention(
        attention,
        lambda: AutoModelForImageTextToText.from_pretrained(
            source, dtype=dtype, attn_implementation=attention, revision=revision
        ),
    )


def random_model(source: str | Path, *, attention: str, revision: str | None) -> PreTrainedModel:
    """Random weights for the configuration of a folder or hub id."""
    check_source(source)
    config = AutoConfig.from_pretrained(source, revision=revision)
    return _with_attention(
        attention, lambda: AutoModelForImageTextToText.from_config(config, attn_implementation=attention)
    )


def _with_attention(attention: str, build: Callable[[], PreTrainedModel]) -> PreTrainedModel:
    try:
        return build()
    except (ImportError, ValueError) as error:
        if attention == "eager" or not any(word in str(error).lower() for word in ("attention", "attn", attention)):
            raise
        raise SettingError(
            f"attention must be an implementation that this machine and model have, got {attention!r}: {error} "
            "Use 'sdpa' or 'eager', or install what is missing."
        ) from error


def check_layer(layer: int, layers: int) -> None:
    """Raise unless `layer` counts a state of a model with `layers` text layers from the end."""
    if not -layers - 1 <= layer <= -1:
        raise SettingError(
            f"layer must lie in [{-layers - 1}, -1], got {layer}. Count from the end: -1 is the last layer."
        )


def set_gradient_checkpointing(model: PreTrainedModel) -> None:
    """Let every layer forget its activations in training and compute them again on the way back."""
    if not model.supports_gradient_checkpointing:
        raise SettingError(
            f"gradient_checkpointing must be false for a model without it, got true for {type(model).__name__}. "
            "Leave it out."
        )
    enable = (
        getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    )  # before 5.23
    enable({"use_reentrant": False})  # the reentrant form loses gradients of frozen parts


def refuse_adapters(model: nn.Module) -> None:
    """Raise if `model` has LoRA adapters, under whose names `from_pretrained` would find no weights."""
    if any(hasattr(module, "lora_A") for module in model.modules()):
        raise CheckpointError(
            "model must have no adapters when it is saved, got one with LoRA. "
            "Call merge_lora first, or save the state dict."
        )


def apply_keeping_rotary(module: nn.Module, apply: Callable[[], Any]) -> None:
    """Call `apply`, which casts or moves `module`, and give rotary frequencies their precision back."""
    rotary = [part for part in module.modules() if hasattr(part, "original_inv_freq")]
    kept = [(part, name, getattr(part, name)) for part in rotary for name in ("inv_freq", "original_inv_freq")]
    apply()
    for part, name, frequencies in kept:
        if not frequencies.is_meta:
            setattr(part, name, frequencies.to(getattr(part, name).device))
