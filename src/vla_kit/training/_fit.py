"""Whether the weights of a checkpoint fit a model, told before any of them is loaded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from torch import Tensor

from vla_kit.errors import CheckpointError
from vla_kit.policy.weights import differences

__all__ = ["STATISTICS", "check_fit", "statistics_of"]

STATISTICS: Final = {"normalizer": "action_space", "state_normalizer": "state_space"}
"""Normaliser of a module -> the space of a robot that it scales.

Their statistics may differ from stage to stage and have errors of their own.
"""


def check_fit(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], *, source: str | Path, remedy: str) -> None:
    """Refuse a state dict with other keys or shapes, by name; statistics that the model has room for are left out.

    Args:
        theirs: State dict of the checkpoint.
        ours: State dict of the model.
        source: The checkpoint, for the message.
        remedy: What to do, for the message.

    Raises:
        CheckpointError: If a key is missing or unknown, or a shape differs.
    """
    known = {statistics_of(key) for key in ours} - {None}
    found = differences(
        {key: theirs[key] for key in theirs if statistics_of(key) not in known},
        {key: ours[key] for key in ours if statistics_of(key) not in known},
    )
    if found:
        raise CheckpointError(f"checkpoint must fit the model, got {source} with {found}. {remedy}")


def statistics_of(key: str) -> str | None:
    """Name of the normaliser that a key of a state dict belongs to; None for a weight."""
    first = key.partition(".")[0]
    return first if first in STATISTICS else None
