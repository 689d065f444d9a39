"""One training example of language."""

from dataclasses import dataclass

from vla_kit.protocols import Conversation

__all__ = ["ConversationSample"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationSample:
    """A conversation and where it comes from; the counterpart of `Sample`, which a robot acts in.

    Args:
        conversation: What is read and answered.
        dataset: Name of the data set, for mixtures and logs.
        index: Number of the record in the data set.
    """

    conversation: Conversation
    dataset: str
    index: int
