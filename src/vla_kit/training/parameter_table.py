"""How many parameters the parts of a model have, counted without allocating them."""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table
from torch import nn

import vla_kit.training._parsing  # noqa: F401  (lets the parser read our types)
from vla_kit.data.whole_file import write_whole
from vla_kit.errors import SettingError
from vla_kit.training._config_file import read_config

__all__ = ["parameter_table", "print_parameters"]


def parameter_table(module: nn.Module) -> dict[str, int]:
    """Parameters of each part of a module; the parts sum to the whole.

    A module that knows the rows of its paper (`DiTHead.parameter_table`) is asked; of any other one each child is a
    row, and a child that knows its rows stands in them.

    Args:
        module: Any module, on any device, the meta device included.

    Returns:
        Part -> number of parameters. Parameters that hang on the module itself stand under `own`.

    Examples:
        >>> parameter_table(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1, bias=False)))
        {'0': 9, '1': 3}
    """
    own: Any = getattr(module, "parameter_table", None)
    if own is not None:
        rows: dict[str, int] = own()
        return rows
    table = {"own": sum(parameter.numel() for parameter in module.parameters(recurse=False))}
    for name, child in module.named_children():
        if hasattr(child, "parameter_table"):
            table |= {f"{name}.{part}": count for part, count in parameter_table(child).items()}
        else:
            table[name] = sum(parameter.numel() for parameter in child.parameters())
    return {name: count for name, count in table.items() if count}


def print_parameters(args: Sequence[str]) -> None:
    """Print the parameters of a configuration's action head; nothing is downloaded or allocated.

    Args:
        args: Arguments of `vla-kit params`.

    Raises:
        SettingError: If a file cannot be read, or none names a head.
        DataError: If the table cannot be written.
    """
    # Not jsonargparse's auto_cli: that keeps `--config` for files of its own.
    parser = argparse.ArgumentParser("vla-kit params", description="Print the parameters of the action head.")
    parser.add_argument("--config", action="append", required=True, help="YAML file as for training; may be repeated")
    parser.add_argument("--json", type=Path, help="file to write the table to")
    asked = parser.parse_args(args)
    head = _head_on_meta(asked.config)
    table = parameter_table(head)
    blocks = len(getattr(head, "blocks", ()))
    shown = Table("part", "parameters", "", title=type(head).__name__)
    for name, count in table.items():
        repeated = name == "blocks" and blocks
        shown.add_row(name, f"{count:,}", f"{blocks} x {_millions(count / blocks)}" if repeated else _millions(count))
    total = sum(table.values())
    shown.add_row("total", f"{total:,}", f"{total / 1e9:.2f} B" if total >= 1e9 else _millions(total))
    Console().print(shown)
    if asked.json is not None:
        write_whole(asked.json, json.dumps({**table, "total": total}, indent=2) + "\n")


def _head_on_meta(configs: Sequence[str]) -> nn.Module:
    """The head of stacked YAML files, whose later ones override earlier ones."""
    described: dict[str, Any] = {}
    wrapper: Any = None
    width: int | None = None
    for path in configs:
        model = read_config(path).get("model") or {}
        described = _overridden(described, model.get("head") or {})
        wrapper = model.get("head_wrapper", wrapper)
        width = ((model.get("backbone") or {}).get("init_args") or {}).get("hidden", width)
    if "class_path" not in described:
        raise SettingError(f"config must set model.head.class_path, got none in {configs}. Add a file of configs/size.")
    if width is not None:  # as the command line links the two
        described = {**described, "init_args": {"context_width": width, **described.get("init_args", {})}}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(nn.Module, "head")
    parser.add_argument("--head_wrapper", type=Callable[[nn.Module], nn.Module] | None)
    with torch.device("meta"):
        made = parser.instantiate(parser.parse_object({"head": described, "head_wrapper": wrapper}))
        head: nn.Module = made.head if made.head_wrapper is None else made.head_wrapper(made.head)
    return head


def _millions(count: float) -> str:
    return f"{count / 1e6:.1f} M"


def _overridden(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """The later head where it names another class, otherwise the earlier one with the later arguments."""
    if later.get("class_path", earlier.get("class_path")) != earlier.get("class_path"):
        return later
    arguments = {**earlier.get("init_args", {}), **later.get("init_args", {})}
    return {**earlier, **later, "init_args": arguments}
