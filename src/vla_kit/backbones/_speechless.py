"""The refusal of backbones without a language head."""

from collections.abc import Sequence

from vla_kit.errors import SettingError
from vla_kit.protocols import Conversation, Observation

__all__ = ["observations_alone"]


def observations_alone(
    observations: Sequence[Observation | Conversation], *, with_labels: bool, backbone: str
) -> list[Observation]:
    """The observations, for a backbone that reads nothing else.

    Args:
        observations: What was given.
        with_labels: Whether labels were asked for.
        backbone: Its class, for the message.

    Raises:
        SettingError: If one is a conversation, or labels are asked for.
    """
    if with_labels or any(isinstance(one, Conversation) for one in observations):
        raise SettingError(
            f"backbone must have a language head where language is learned, got {backbone}. Use QwenVLBackbone, or "
            "leave the conversations out."
        )
    return [one for one in observations if isinstance(one, Observation)]
