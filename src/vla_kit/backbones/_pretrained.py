"""What every backbone around a model of transformers does the same way."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, PreTrainedModel

from vla_kit.errors import CheckpointError, SettingError, VLAKitError

__all__ = [
    "apply_keeping_rotary",
    "check_layer",
    "check_source",
    "load_model",
    "random_model",
    "reading",
    "refuse_adapters",
    "set_gradient_checkpointing",
]

_DTYPES: Final = ("float32", "bfloat16", "float16", "auto")


def check_source(source: str | Path) -> None:
    """Raise if `source` is written as a path and no folder is there: transformers would take it for a hub id."""
    is_path = isinstance(source, Path) or source.startswith(("/", ".", "~"))
    if is_path and not Path(source).is_dir():
        raise CheckpointError(
            f"source must be a folder or a hub id, got {str(source)!r}, which does not exist. "
            "Write one with save_pretrained, or give an id such as 'Qwen/Qwen3.5-4B'."
        )


@contextmanager
def reading(source: str | Path) -> Iterator[None]:
    """Say in words of ours that a folder is not whole; transformers has a dozen kinds of errors for it."""
    try:
        yield
    except VLAKitError:
        raise
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
        raise CheckpointError(
            f"source must be a whole folder that save_pretrained wrote or a hub id that can be reached, got "
            f"{str(source)!r}: {type(error).__name__}: {first.rstrip('.')}. Copy the folder again, or check id, "
            "revision and connection."
        ) from error


def load_model(source: str | Path, *, dtype: str, attention: str, revision: str | None) -> PreTrainedModel:
    """Weights of a folder or hub id, all of them, in the class that its configuration names."""
    if dtype not in _DTYPES:
        raise SettingError(f"dtype must be one of {_DTYPES}, got {dtype!r}. 'auto' keeps that of the checkpoint.")
    check_source(source)
    with reading(source):
        model, found = _with_attention(
            attention,
            lambda: AutoModelForImageTextToText.from_pretrained(
                source, dtype=dtype, attn_implementation=attention, revision=revision, output_loading_info=True
            ),
        )
    missing = sorted(found["missing_keys"])
    if missing:  # transformers draws them at random, and goes on
        raise CheckpointError(
            f"source must hold all weights of the model, got {str(source)!r} without {len(missing)} of them, such as "
            f"{missing[:3]}. Copy the folder again, or take from_config for random weights."
        )
    loaded: PreTrainedModel = model
    return loaded


def random_model(source: str | Path, *, attention: str, revision: str | None) -> PreTrainedModel:
    """Random weights for the configuration of a folder or hub id."""
    check_source(source)
    with reading(source):
        config = AutoConfig.from_pretrained(source, revision=revision)
        model: PreTrainedModel = _with_attention(
            attention, lambda: AutoModelForImageTextToText.from_config(config, attn_implementation=attention)
        )
    return model


def _with_attention(attention: str, build: Callable[[], Any]) -> Any:  # noqa: ANN401 (a model, or more about it)
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
