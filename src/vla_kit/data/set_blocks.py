"""Check the data set blocks of a YAML file, so that a slip is named with its file and line."""

from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Final

import yaml

from vla_kit.data._suggestion import suggestion
from vla_kit.data.action_columns import ActionColumns
from vla_kit.data.captions.caption_mix import CaptionMix
from vla_kit.data.conversations.conversation_set import ConversationSet
from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.embodiment import History
from vla_kit.errors import SettingError

__all__ = ["check_set_blocks"]

_PLACES: Final = {
    "sets": DemonstrationSet,
    "sets+": DemonstrationSet,
    "conversations": ConversationSet,
    "conversations+": ConversationSet,
}


def check_set_blocks(path: str | Path) -> None:
    """Refuse unknown and missing keys in the `sets` and `conversations` of the `data` section of a configuration file.

    The command line refuses them too, but shows the values of all files together. This names file, line and key.
    Whatever is no list of blocks is left to the command line.

    Args:
        path: YAML file, with or without data sets.

    Raises:
        SettingError: If a key of a block, its `actions`, `state`, `captions` or `history` is unknown or missing, or a
            range of channels has no quotes and was read as a number.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "lab.yaml")
        ...     _ = path.write_text("data: {init_args: {sets: [{root: data/lab, embodiment: ur5, view: {a: b}}]}}")
        ...     check_set_blocks(path)
        Traceback (most recent call last):
        ...
        vla_kit.errors.SettingError: .../lab.yaml, line 1: data.init_args.sets[0] must have known keys, got 'view'.
        Did you mean 'views'? There are ['actions', 'cache_frames', ...].
    """
    try:
        root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return  # the command line says so better
    for name, settings in _entries(_child(root, "data", "init_args")):
        if name.value not in _PLACES or not isinstance(settings, yaml.SequenceNode):
            continue
        for place, block in enumerate(settings.value):
            where = f"data.init_args.{name.value}[{place}]"
            _check_keys(path, block, where, _PLACES[name.value])
            _check_keys(path, _child(block, "history"), f"{where}.history", History)
            _check_keys(path, _child(block, "captions"), f"{where}.captions", CaptionMix)
            for kind in ("actions", "state"):
                pieces = _child(block, kind)
                for number, piece in enumerate(pieces.value if isinstance(pieces, yaml.SequenceNode) else []):
                    _check_keys(path, piece, f"{where}.{kind}[{number}]", ActionColumns)
                    _check_ranges(path, piece, f"{where}.{kind}[{number}]")


def _check_keys(
    path: str | Path,
    block: yaml.Node | None,
    where: str,
    kind: type[DemonstrationSet | ConversationSet | ActionColumns | CaptionMix | History],
) -> None:
    given = {name.value: name for name, _ in _entries(block)}
    known = [field.name for field in fields(kind)]
    needed = [field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING]
    for key, node in given.items():
        if key not in known:
            raise SettingError(
                f"{path}, line {_line(node)}: {where} must have known keys, got {key!r}. {suggestion(key, known)}"
            )
    missing = [key for key in needed if key not in given]
    if isinstance(block, yaml.MappingNode) and missing:
        raise SettingError(
            f"{path}, line {_line(block)}: {where} must have the keys {needed}, got {sorted(given)}. Add {missing}."
        )


def _check_ranges(path: str | Path, piece: yaml.Node, where: str) -> None:
    for name, value in _entries(piece):
        numbers = value.value if isinstance(value, yaml.SequenceNode) else [value]
        for node in numbers if name.value in ("channels", "reference_channels") else []:
            if isinstance(node, yaml.ScalarNode) and node.tag.endswith(":int") and ":" in node.value:
                raise SettingError(
                    f"{path}, line {_line(node)}: {where}.{name.value} must be in quotes, got {node.value}, which YAML "
                    f"reads as a number of base 60. Write '{node.value}'."
                )


def _child(node: yaml.Node | None, *names: str) -> yaml.Node | None:
    for name in names:
        node = next((value for key, value in _entries(node) if key.value == name), None)
    return node


def _entries(node: yaml.Node | None) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    yield from node.value if isinstance(node, yaml.MappingNode) else ()


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
