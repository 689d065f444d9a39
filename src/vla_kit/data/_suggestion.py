"""The remedy for a name that does not exist: the near ones, or all of them."""

import difflib
from collections.abc import Iterable

__all__ = ["suggestion"]


def suggestion(name: str, known: Iterable[str]) -> str:
    """A sentence that offers the nearest known name, and lists all.

    Args:
        name: The name that was given.
        known: Names that exist.

    Examples:
        >>> suggestion("acton", ["action", "observation.state"])
        "Did you mean 'action'? There are ['action', 'observation.state']."
        >>> suggestion("wrist", [])
        'There are none.'
    """
    names = sorted(known)
    if not names:
        return "There are none."
    last = {key.rsplit(end, 1)[-1]: key for end in (".", "/") for key in names}
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5) or [
        last[part] for part in difflib.get_close_matches(name, last, n=1, cutoff=0.6)
    ]
    return (f"Did you mean {near[0]!r}? " if near else "") + f"There are {names}."
