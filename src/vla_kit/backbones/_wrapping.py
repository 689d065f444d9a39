"""A module around another one whose state dict is that of the inner one."""

from functools import partial
from typing import Any

from torch import nn

__all__ = ["hide_in_state_dict"]


def hide_in_state_dict(outer: nn.Module, name: str) -> None:
    """Leave the name of a child out of the keys that `outer` saves and loads.

    Args:
        outer: The module around; it has nothing to save beside the child.
        name: The child's name in it.
    """
    outer.register_state_dict_post_hook(partial(_without, name))
    outer.register_load_state_dict_pre_hook(partial(_with, name))


def _without(name: str, module: nn.Module, state: dict[str, Any], prefix: str, _metadata: Any) -> None:  # noqa: ANN401 (a hook of torch)
    for key in [key for key in state if key.startswith(f"{prefix}{name}.")]:
        state[prefix + key.removeprefix(f"{prefix}{name}.")] = state.pop(key)


def _with(name: str, module: nn.Module, state: dict[str, Any], prefix: str, *_rest: Any) -> None:  # noqa: ANN401 (a hook of torch)
    for key in [key for key in state if key.startswith(prefix)]:
        state[f"{prefix}{name}.{key.removeprefix(prefix)}"] = state.pop(key)
