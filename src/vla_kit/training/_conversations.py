"""Sets of conversations as parts of a mixture."""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch.utils.data import Subset

from vla_kit.data.any_sample import AnySample
from vla_kit.data.conversations import ConversationSet
from vla_kit.data.conversations.source import ConversationSource
from vla_kit.data.lazy_parts import Part
from vla_kit.data.split import split_episodes

__all__ = ["conversation_parts"]


def conversation_parts(
    sets: Sequence[ConversationSet], *, validation_share: float, seed: int
) -> tuple[list[Part], list[Part]]:
    """Open every set once, and divide its conversations into those that train and those that validate.

    Args:
        sets: Sets of the mixture.
        validation_share: Share of each set that validates, in [0, 1).
        seed: Of the split.

    Returns:
        Parts that train, and parts that validate.

    Raises:
        DataError: If a set is missing, broken or empty.
    """
    train, validation = [], []
    for one in sets:
        source = one.open()
        count = min(len(source), one.num_conversations or len(source))
        trained, held_out = split_episodes(range(count), validation_share, seed=seed)
        train.append(_part(one, source, trained))
        if held_out:
            validation.append(_part(one, source, held_out))
    return train, validation


def _part(chosen: ConversationSet, source: ConversationSource, records: Sequence[int]) -> Part:
    return Part(
        name=source.name,
        dataset=source.name,
        location=source.location,
        fingerprint=hashlib.sha256(f"{source.fingerprint} {list(records)}".encode()).hexdigest()[:16],
        embodiment="",
        length=len(records),
        weight=chosen.weight,
        open=chosen.open,
        windows=partial(_chosen, records=records),
    )


def _chosen(source: ConversationSource, records: Sequence[int]) -> Subset[AnySample]:
    items: Any = source
    return Subset(items, records)
