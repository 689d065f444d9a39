"""Native actions: spaces, masked chunks, statistics, the quantile normaliser, deltas, rotations and waypoints."""

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
from vla_kit.actions.waypoints import (
    DiscreteAction,
    StopRule,
    WaypointReading,
    convert_waypoints,
    discrete_to_waypoints,
    integrate_waypoints,
    waypoints_between,
    waypoints_to_discrete,
    wrap_angle,
)

__all__ = [
    "ROTATION_SIZES",
    "ActionRepresentation",
    "ActionSpace",
    "Channel",
    "ChannelGroup",
    "ChannelKind",
    "ChannelReference",
    "DeltaFrame",
    "DiscreteAction",
    "MaskedActions",
    "QuantileNormalizer",
    "QuantileStats",
    "Representation",
    "RotationForm",
    "StopRule",
    "WaypointReading",
    "convert_rotation",
    "convert_waypoints",
    "discrete_to_waypoints",
    "from_matrix",
    "integrate_waypoints",
    "rotation_defect",
    "to_matrix",
    "waypoints_between",
    "waypoints_to_discrete",
    "wrap_angle",
]
