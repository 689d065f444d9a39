"""Show how far a count of frames has come."""

import sys
from collections.abc import Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

__all__ = ["with_progress"]

Result = TypeVar("Result")


def with_progress(results: Iterator[Result], *, total: int, text: str) -> Iterator[Result]:
    """Hand results through and draw a bar with the time left, where somebody watches a terminal.

    Args:
        results: As an executor gives them.
        total: How many there will be.
        text: Stands before the bar.

    Examples:
        >>> list(with_progress(iter("ab"), total=2, text="counting"))
        ['a', 'b']
    """
    yield from track(
        results,
        text,
        total=total,
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
