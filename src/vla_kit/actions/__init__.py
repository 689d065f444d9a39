"""Native actions: spaces, masked chunks, statistics and the quantile normaliser."""

from vla_kit.actions.masked import MaskedActions
from vla_kit.actions.normalizer import QuantileNormalizer
from vla_kit.actions.space import ActionSpace, Channel, ChannelGroup, ChannelKind, ChannelReference
from vla_kit.actions.statistics import QuantileStats

__all__ = [
    "ActionSpace",
    "Channel",
    "ChannelGroup",
    "ChannelKind",
    "ChannelReference",
    "MaskedActions",
    "QuantileNormalizer",
    "QuantileStats",
]
