"""How a model reads states: not at all, in the prompt, in the head, or in both."""

from torch import nn

from vla_kit.actions import QuantileNormalizer
from vla_kit.embodiment import EmbodimentPrompter, StateScaler
from vla_kit.errors import SettingError
from vla_kit.heads.state_token import state_channels

__all__ = ["state_scaler"]


def state_scaler(
    normalizer: QuantileNormalizer | None, *, prompter: EmbodimentPrompter, head: nn.Module, channels: int
) -> StateScaler | None:
    """What makes native states readable for a model; training and policies build it here.

    Args:
        normalizer: Statistics of the states; None for a model that reads none.
        prompter: Writes states where it has `state_bins`.
        head: Reads states where it is or holds a `StateTokenHead`.
        channels: Padded width of the states where the head says none.

    Returns:
        The scaler; None for a model that reads no state.

    Raises:
        SettingError: If prompter or head reads states, but there is no normaliser for them, or neither does and there
            is one.

    Examples:
        >>> from vla_kit.embodiment import preset
        >>> from vla_kit.heads import DiTHead
        >>> prompter = EmbodimentPrompter([preset("aloha_transfer")], state_bins=256)
        >>> head = DiTHead(context_width=6, channels=4, width=16, depth=1, num_heads=2, mlp_hidden=32)
        >>> state_scaler(QuantileNormalizer(), prompter=prompter, head=head, channels=14).channels
        14
    """
    width = state_channels(head)
    reads = width is not None or prompter.state_bins is not None
    if reads and normalizer is None:
        raise SettingError(
            "state_normalizer must be given where the prompter writes states or the head reads them, got None. Give an "
            "empty QuantileNormalizer, which the data fill, or that of a checkpoint."
        )
    if normalizer is None:
        return None
    if not reads:
        raise SettingError(
            "state_normalizer must be left out where nothing reads states, got one. Give the prompter state_bins, wrap "
            "the head in StateTokenHead, or leave it out."
        )
    return StateScaler(normalizer, prompter=prompter, channels=channels if width is None else width)
