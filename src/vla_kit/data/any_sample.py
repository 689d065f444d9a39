"""What a mixture holds: samples of robots, and conversations."""

from vla_kit.data.conversations.sample import ConversationSample
from vla_kit.data.sample import Sample

__all__ = ["AnySample"]

AnySample = Sample | ConversationSample
"""An item of a mixture."""
