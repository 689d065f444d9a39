"""One set of conversations of a mixture: where it lies and how often it is drawn."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vla_kit.errors import SettingError

if TYPE_CHECKING:
    from vla_kit.data.conversations.source import ConversationSource

__all__ = ["ConversationSet"]


@dataclass(frozen=True, kw_only=True)
class ConversationSet:
    """Conversations as part of a mixture: the block of YAML that adds them to a run.

    Args:
        path: File, folder or hub id, see `ConversationSource`.
        weight: Share of the mixture, at least 0, relative to the other sets.
        name: Name of the set; that of the file or folder where None.
        split: Split of a data set that has several.
        pictures_root: Folder that the paths of pictures are relative to; that of `path` where None.
        rate_hz: Frames per second to take of a video.
        max_frames: Most frames of a video.
        num_conversations: Take the first so many; all where None.

    Raises:
        SettingError: If `weight` is negative or not finite, or `num_conversations` below 1. `open` checks the rest.

    Examples:
        >>> ConversationSet(path="data/captions.jsonl").weight
        1.0
    """

    path: str
    weight: float = 1.0
    name: str | None = None
    split: str = "train"
    pictures_root: str | None = None
    rate_hz: float = 2.0
    max_frames: int = 16
    num_conversations: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise SettingError(
                f"weight must be at least 0 and finite, got {self.weight} for {self.path}. Use 0 to leave it out."
            )
        if self.num_conversations is not None and self.num_conversations < 1:
            raise SettingError(
                f"num_conversations must be at least 1, got {self.num_conversations} for {self.path}. Leave it out for "
                "all."
            )

    def open(self) -> "ConversationSource":
        """Open the set.

        Raises:
            DataError: If it is missing, broken or empty.
        """
        from vla_kit.data.conversations.source import (
            ConversationSource,
        )  # runs without conversations need no `datasets`

        return ConversationSource(
            self.path,
            split=self.split,
            name=self.name,
            pictures_root=self.pictures_root,
            rate_hz=self.rate_hz,
            max_frames=self.max_frames,
        )
