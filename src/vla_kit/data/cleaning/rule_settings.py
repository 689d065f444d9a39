"""A rule as plain data, in the form in which YAML gives it."""

import inspect
from typing import Any

from vla_kit.data.cleaning.rule import CleaningRule

__all__ = ["rule_settings"]


def rule_settings(rule: CleaningRule) -> dict[str, Any]:
    """Class path and arguments of a rule; a rule keeps each argument as an attribute of the same name.

    Args:
        rule: Rule.

    Returns:
        `name`, `class_path` and `init_args`, ready for JSON.

    Examples:
        >>> from vla_kit.data.cleaning.rules import MinimumFrames
        >>> rule_settings(MinimumFrames(threshold=12))["init_args"]
        {'threshold': 12}
    """
    kind = type(rule)
    arguments = {
        name: _plain(getattr(rule, name)) for name in inspect.signature(kind).parameters if hasattr(rule, name)
    }
    return {"name": rule.name, "class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": arguments}


def _plain(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else repr(value)
