"""Read JSON values field by field, and name every fault at once."""

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from vla_kit.errors import DataError

__all__ = ["Faults", "json_of", "read_list", "read_object", "read_texts", "whole_number"]

_LONGEST: Final = 1000  # characters of a text
_FENCE: Final = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)
_THOUGHT: Final = re.compile(r"^.*?</think>", re.DOTALL)


class Faults:
    """What is wrong with one answer.

    Args:
        subject: Word for what is read.
    """

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._found: list[str] = []

    def add(self, fault: str) -> None:
        """Note a fault and go on."""
        self._found.append(fault)

    def check(self) -> None:
        """Go on where nothing is wrong.

        Raises:
            DataError: If there are faults.
        """
        if self._found:
            count = f"{len(self._found)} fault{'s' if len(self._found) > 1 else ''}"
            raise DataError(
                f"{self._subject} must be as described, got {count}: {'; '.join(self._found)}. Correct them."
            )


def json_of(text: str) -> object:
    r"""The JSON object in an answer, with thoughts before it or a fence of backticks around it or not.

    Args:
        text: What a model has said.

    Raises:
        DataError: If there is no JSON object.

    Examples:
        >>> json_of('<think>a pear {</think>Here it is: ```json\n{"object": "pear"}\n```')
        {'object': 'pear'}
    """
    said = _THOUGHT.sub("", text)
    fenced = _FENCE.search(said)
    said = fenced[1] if fenced else said
    begin = said.find("{")
    try:
        value, _ = json.JSONDecoder().raw_decode(said[begin:] if begin >= 0 else "")
    except ValueError as error:
        raise DataError(
            f"answer must be one JSON object, got {text[:120]!r}: {error}. Answer with the object alone, complete."
        ) from error
    return value


def read_object(
    data: object, names: Sequence[str], path: str, faults: Faults, *, also: Sequence[str] = ()
) -> dict[str, Any]:
    """An object with exactly these keys; empty where it is none.

    Args:
        data: JSON value.
        names: Keys that it must have.
        path: Where it stands, for the fault.
        faults: What is wrong is added here.
        also: Further keys that it must have, which the caller reads.
    """
    where = path or "it"
    if not isinstance(data, dict):
        faults.add(f"{where} must be an object with {[*also, *names]}, got {_shown(data)}")
        return {}
    wanted = [*also, *names]
    missing, unknown = [name for name in wanted if name not in data], sorted(set(data) - set(wanted))
    if missing:
        faults.add(f"{where} must have {missing}, which are missing")
    if unknown:
        faults.add(f"{where} must have no {unknown}")
    return data


def read_texts(
    data: object, names: Sequence[str], path: str, faults: Faults, *, also: Sequence[str] = ()
) -> dict[str, str]:
    """Texts that are not empty, trimmed, by their names.

    Args:
        data: JSON value.
        names: Keys, each a text.
        path: Where it stands, for the fault.
        faults: What is wrong is added here.
        also: Further keys, which the caller reads.
    """
    found = read_object(data, names, path, faults, also=also)
    return {name: _read_text(found[name], f"{path}.{name}".lstrip("."), faults) for name in names if name in found}


def read_list(data: object, most: int, path: str, faults: Faults) -> list[Any]:
    """A list of one to `most` entries; empty where it is none.

    Args:
        data: JSON value.
        most: Entries at most.
        path: Where it stands, for the fault.
        faults: What is wrong is added here.
    """
    if data is None:
        return []  # missing, which is a fault of the object around it
    if not isinstance(data, list) or not 1 <= len(data) <= most:
        count = f"{len(data)} entries" if isinstance(data, list) else _shown(data)
        faults.add(f"{path} must be a list of 1 to {most} entries, got {count}")
        return []
    return data


def whole_number(value: object) -> int:
    """A number that counts, such as that of an episode.

    Args:
        value: JSON value.

    Raises:
        TypeError: If it is none, for a caller who says where it stands.

    Examples:
        >>> whole_number(3)
        3
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError(f"{value!r} is no number of at least 0")
    return value


def _read_text(value: object, path: str, faults: Faults) -> str:
    if not isinstance(value, str) or not value.strip():
        faults.add(f"{path} must be a text, got {_shown(value)}")
        return ""
    text = " ".join(value.split())
    if len(text) > _LONGEST:
        faults.add(f"{path} must have at most {_LONGEST} characters, got {len(text)}")
    return text


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
