"""Native actions: spaces, masked chunks, statistics, the quantile normaliser, deltas and rotations."""

from vla_kit.actions.masked import MaskedActions
from vla_kit.actions.normalizer import QuantileNormalizer
from vla_kit.actions.representation import ActionRepresentation, DeltaFrame, Representation
from vla_kit.actions.rotations import (
    ROTATION_SIZES,
    RotationForm,
    convert_rotation,
    from_matrix,
    rotation_defect,
    to_matrix,
)
from vla_kit.actions.space import ActionSpace, Channel, ChannelGroup, ChannelKind, ChannelReference
from vla_kit.actions.statistics import QuantileStats

__all__ = [
    "ROTATION_SIZES",
    "ActionRepresentation",
    "ActionSpace",
    "Channel",
    "ChannelGroup",
    "ChannelKind",
    "ChannelReference",
    "DeltaFrame",
    "MaskedActions",
    "QuantileNormalizer",
    "QuantileStats",
    "Representation",
    "RotationForm",
    "convert_rotation",
    "from_matrix",
    "rotation_defect",
    "to_matrix",
]
