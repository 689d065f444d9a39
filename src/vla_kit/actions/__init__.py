"""Native actions: spaces, masked chunks, statistics, the quantile normaliser, deltas, rotations, waypoints, hands."""

from vla_kit.actions.eigengrasps import EigengraspBasis, joint_angles_between
from vla_kit.actions.hand_layout import FINGER_JOINTS, HAND_SIDES, NUM_GRASPS, HandSide, hand_channels
from vla_kit.actions.hand_mirror import mirror_fingers, mirror_hand_mask, mirror_hands, mirror_pose
from vla_kit.actions.hand_skeleton import HAND_POINTS, REST_BONES, hand_points, retarget_points
from vla_kit.actions.hands import decode_hands, encode_hands
from vla_kit.actions.masked import MaskedActions
from vla_kit.actions.normalizer import QuantileNormalizer
from vla_kit.actions.representation import ActionRepresentation, DeltaFrame, Representation
from vla_kit.actions.rotations import (
    ROTATION_SIZES,
    RotationForm,
    convert_rotation,
    from_matrix,
    rotation_angle,
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
    "FINGER_JOINTS",
    "HAND_POINTS",
    "HAND_SIDES",
    "NUM_GRASPS",
    "REST_BONES",
    "ROTATION_SIZES",
    "ActionRepresentation",
    "ActionSpace",
    "Channel",
    "ChannelGroup",
    "ChannelKind",
    "ChannelReference",
    "DeltaFrame",
    "DiscreteAction",
    "EigengraspBasis",
    "HandSide",
    "MaskedActions",
    "QuantileNormalizer",
    "QuantileStats",
    "Representation",
    "RotationForm",
    "StopRule",
    "WaypointReading",
    "convert_rotation",
    "convert_waypoints",
    "decode_hands",
    "discrete_to_waypoints",
    "encode_hands",
    "from_matrix",
    "hand_channels",
    "hand_points",
    "integrate_waypoints",
    "joint_angles_between",
    "mirror_fingers",
    "mirror_hand_mask",
    "mirror_hands",
    "mirror_pose",
    "retarget_points",
    "rotation_angle",
    "rotation_defect",
    "to_matrix",
    "waypoints_between",
    "waypoints_to_discrete",
    "wrap_angle",
]
