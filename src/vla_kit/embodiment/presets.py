"""Ready embodiments: the robots of the paper, human hands, navigation, and the robots of demo and benchmarks.

The paper names robots, arms and action types; it prints neither robot tags, rates, chunk sizes nor joint counts.
Tags are the names of its table 2. A rate is the usual one of a public data set of that robot, and a joint count is
that of the robot as usually delivered: compare both with your data, whose own numbers must stand in the prompt.
The order of channels (left before right, gripper after its arm) and which grippers are normalised are our choices too.
`preset(name, rate_hz=..., chunk_size=...)` changes them, and a new robot is a few lines of YAML.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from vla_kit.actions import ActionSpace, ChannelGroup
from vla_kit.embodiment.spec import EmbodimentSpec
from vla_kit.errors import EmbodimentError

__all__ = ["PRESETS", "preset"]

_SIDES: Final = ("left_", "right_")


def _binary_gripper() -> ChannelGroup:
    """Open or closed, as in the single-arm sets of Open X-Embodiment; kept out of the quantile map."""
    return ChannelGroup("gripper", kind="gripper", reference="absolute", unit="0 closed, 1 open", normalized=False)


def _gripper(prefix: str = "") -> ChannelGroup:
    """A continuous aperture, whose native unit and range differ from data set to data set."""
    return ChannelGroup(f"{prefix}gripper", kind="gripper", reference="absolute", unit="aperture")


def _eef(prefix: str = "") -> list[ChannelGroup]:
    """Displacement of one end-effector: 6 channels."""
    return [
        ChannelGroup(f"{prefix}position", kind="eef_position", reference="delta", unit="m", count=3),
        ChannelGroup(f"{prefix}rotation", kind="eef_rotation", reference="delta", unit="rad", count=3),
    ]


def _joints(prefix: str = "", *, count: int) -> ChannelGroup:
    return ChannelGroup(f"{prefix}joint", kind="joint", reference="absolute", unit="rad", count=count)


def _fingers(prefix: str, *, count: int) -> ChannelGroup:
    return ChannelGroup(f"{prefix}hand", kind="hand", reference="absolute", unit="rad", count=count)


def _human_hand(prefix: str) -> list[ChannelGroup]:
    """Wrist against the first frame, then weights of the finger pose: 16 channels."""
    return [
        ChannelGroup(f"{prefix}wrist_position", kind="eef_position", reference="delta", unit="m", count=3),
        ChannelGroup(
            f"{prefix}wrist_rotation", kind="eef_rotation", reference="delta", unit="rad, axis-angle", count=3
        ),
        ChannelGroup(f"{prefix}finger", kind="hand", reference="absolute", unit="eigengrasp weight", count=10),
    ]


_EEF_SINGLE: Final = ActionSpace([*_eef(), _binary_gripper()])
_EEF_DUAL: Final = ActionSpace([group for side in _SIDES for group in (*_eef(side), _gripper(side))])
_HUMAN: Final = ActionSpace([group for side in _SIDES for group in _human_hand(side)])


def _joint_dual(count: int) -> ActionSpace:
    """Per side `count` joints and a gripper, left first."""
    return ActionSpace([group for side in _SIDES for group in (_joints(side, count=count), _gripper(side))])


def _hand_dual(count: int, *, fingers: int) -> ActionSpace:
    """Both arms, then both hands, left first."""
    arms, hands = [_joints(side, count=count) for side in _SIDES], [_fingers(side, count=fingers) for side in _SIDES]
    return ActionSpace([*arms, *hands])


_WAYPOINTS: Final = ActionSpace(  # forward, to the left, and turned to the left
    [
        ChannelGroup("dx", kind="waypoint", reference="delta", unit="m"),
        ChannelGroup("dy", kind="waypoint", reference="delta", unit="m"),
        ChannelGroup("dtheta", kind="waypoint", reference="delta", unit="rad"),
    ]
)

_ALOHA: Final = ActionSpace(  # targets and measured angles have the same channels
    [
        ChannelGroup("left_joint", kind="joint", reference="absolute", unit="rad", count=6),
        ChannelGroup("left_gripper", kind="gripper", reference="absolute", unit="0 closed to 1 open"),
        ChannelGroup("right_joint", kind="joint", reference="absolute", unit="rad", count=6),
        ChannelGroup("right_gripper", kind="gripper", reference="absolute", unit="0 closed to 1 open"),
    ]
)


_PAPER: Final = [
    EmbodimentSpec(  # BridgeData V2
        "widowx", robot_tag="WidowX", rate_hz=5.0, chunk_size=16, arms="single", action_space=_EEF_SINGLE
    ),
    EmbodimentSpec(  # RT-1
        "google_robot",
        robot_tag="Google Robot",
        rate_hz=3.0,
        chunk_size=16,
        arms="single",
        action_space=_EEF_SINGLE,
    ),
    EmbodimentSpec(  # DROID
        "franka_eef",
        robot_tag="Franka Panda",
        rate_hz=15.0,
        chunk_size=16,
        arms="single",
        action_space=_EEF_SINGLE,
    ),
    EmbodimentSpec(  # 7 joints
        "franka_joint",
        robot_tag="Franka Panda",
        rate_hz=15.0,
        chunk_size=16,
        arms="single",
        action_space=ActionSpace([_joints(count=7), _gripper()]),
    ),
    EmbodimentSpec(
        "franka_dual_eef",
        robot_tag="Franka Panda",
        rate_hz=15.0,
        chunk_size=16,
        arms="dual",
        action_space=_EEF_DUAL,
    ),
    EmbodimentSpec(
        "franka_dual_joint",
        robot_tag="Franka Panda",
        rate_hz=15.0,
        chunk_size=16,
        arms="dual",
        action_space=_joint_dual(7),
    ),
    EmbodimentSpec("arx5", robot_tag="ARX5", rate_hz=30.0, chunk_size=16, arms="dual", action_space=_EEF_DUAL),
    EmbodimentSpec(
        "fourier_gr1", robot_tag="Fourier GR-1", rate_hz=20.0, chunk_size=16, arms="dual", action_space=_EEF_DUAL
    ),
    EmbodimentSpec(
        "mobile_aloha_eef",
        robot_tag="Mobile ALOHA",
        rate_hz=50.0,
        chunk_size=16,
        arms="dual",
        mobile_base=True,
        action_space=_EEF_DUAL,
    ),
    EmbodimentSpec(  # 6 joints per ViperX arm
        "mobile_aloha_joint",
        robot_tag="Mobile ALOHA",
        rate_hz=50.0,
        chunk_size=16,
        arms="dual",
        mobile_base=True,
        action_space=_joint_dual(6),
    ),
    EmbodimentSpec(  # 7 joints per arm; AgiBot World
        "agibot_a2d_joint",
        robot_tag="AgiBot A2-D",
        rate_hz=30.0,
        chunk_size=16,
        arms="dual",
        action_space=_joint_dual(7),
    ),
    EmbodimentSpec(  # 6 driven joints per hand
        "agibot_a2d_hand",
        robot_tag="AgiBot A2-D",
        rate_hz=30.0,
        chunk_size=16,
        arms="dual",
        action_space=_hand_dual(7, fingers=6),
    ),
    EmbodimentSpec(  # 7 joints per arm; RoboMIND
        "tienkung_joint",
        robot_tag="TienKung",
        rate_hz=30.0,
        chunk_size=16,
        arms="dual",
        action_space=_joint_dual(7),
    ),
    EmbodimentSpec(  # 6 driven joints per hand
        "tienkung_hand",
        robot_tag="TienKung",
        rate_hz=30.0,
        chunk_size=16,
        arms="dual",
        action_space=_hand_dual(7, fingers=6),
    ),
    EmbodimentSpec(  # 6 joints per arm
        "galaxea_r1",
        robot_tag="Galaxea R1",
        rate_hz=15.0,
        chunk_size=16,
        arms="dual",
        action_space=_joint_dual(6),
    ),
    EmbodimentSpec(  # 6 joints per arm, 12 per hand; RoboCOIN
        "airbot_mmk2",
        robot_tag="AIRBOT MMK2",
        rate_hz=30.0,
        chunk_size=16,
        arms="dual",
        action_space=_hand_dual(6, fingers=12),
    ),
    EmbodimentSpec(  # 32 channels from MANO; left before right is our choice
        "human_hands",
        robot_tag="Real human",
        rate_hz=30.0,
        chunk_size=16,
        arms="dual",
        action_space=_HUMAN,
        control_convention=(
            "per hand, left first, the wrist relative to its pose at the first frame as 3 translations [m] and 3 "
            "axis-angle rotations [rad], then 10 eigengrasp weights of the fingers"
        ),
    ),
    EmbodimentSpec(  # the same channels, wrists in the frame of the camera where the chunk starts, as in VITRA
        "human_hands_camera",
        robot_tag="Real human",
        rate_hz=30.0,
        chunk_size=16,
        arms="dual",
        action_space=_HUMAN,
        control_convention=(
            "per hand, left first, the wrist in the frame of the camera at the first frame as 3 translations [m] and 3 "
            "axis-angle rotations [rad], then 10 eigengrasp weights of the fingers"
        ),
    ),
    EmbodimentSpec(  # VLN-CE: video at 2 Hz, 8 waypoints; tag, and all waypoints from the current pose, are our choice
        "navigation",
        robot_tag="navigation agent",
        rate_hz=2.0,
        chunk_size=8,
        arms=None,
        mobile_base=True,
        task="navigation",
        action_space=_WAYPOINTS,
        control_convention="waypoints (dx, dy, dtheta) in the ground plane from the current pose, in m and rad",
    ),
]

_DEMO: Final = [
    EmbodimentSpec(  # Meta-World runs at 80 Hz; one action holds for 4 steps
        "metaworld_sawyer",
        robot_tag="Sawyer",
        rate_hz=20.0,
        chunk_size=16,
        arms="single",
        action_space=ActionSpace(
            [
                ChannelGroup(
                    "position", kind="eef_position", reference="delta", unit="1 cm per simulator step at 1.0", count=3
                ),
                ChannelGroup(
                    "gripper", kind="gripper", reference="absolute", unit="-1 open, 1 closed", normalized=False
                ),
            ]
        ),
        state_space=ActionSpace(
            [
                ChannelGroup("position", kind="eef_position", reference="absolute", unit="m", count=3),
                ChannelGroup("gripper", kind="gripper", reference="absolute", unit="0 closed to 1 open"),
            ]
        ),
    ),
    EmbodimentSpec(  # gym-aloha runs at 50 Hz; one action holds for 4 steps
        "aloha_transfer",
        robot_tag="ALOHA",
        rate_hz=12.5,
        chunk_size=16,
        arms="dual",
        action_space=_ALOHA,
        state_space=_ALOHA,
    ),
    EmbodimentSpec(  # MiniWorld, whose waypoints are carried out one by one: each from the one before it
        "miniworld_agent",
        robot_tag="navigation agent",
        rate_hz=2.0,
        chunk_size=8,
        arms=None,
        mobile_base=True,
        task="navigation",
        action_space=_WAYPOINTS,
        control_convention="waypoints (dx, dy, dtheta) in the ground plane, each from the one before it, in m and rad",
    ),
]

_BENCHMARK: Final = [
    EmbodimentSpec(  # LIBERO, through robosuite's OSC_POSE controller
        "libero_panda",
        robot_tag="Franka Panda",
        rate_hz=20.0,
        chunk_size=16,
        arms="single",
        action_space=ActionSpace(
            [
                ChannelGroup("position", kind="eef_position", reference="delta", unit="5 cm at 1.0", count=3),
                ChannelGroup("rotation", kind="eef_rotation", reference="delta", unit="0.5 rad at 1.0", count=3),
                ChannelGroup(
                    "gripper", kind="gripper", reference="absolute", unit="-1 open, 1 closed", normalized=False
                ),
            ]
        ),
        state_space=ActionSpace(
            [
                ChannelGroup("position", kind="eef_position", reference="absolute", unit="m", count=3),
                ChannelGroup("rotation", kind="eef_rotation", reference="absolute", unit="rad, axis-angle", count=3),
                ChannelGroup("finger", kind="gripper", reference="absolute", unit="m", count=2),
            ]
        ),
    ),
]

PRESETS: Final[Mapping[str, EmbodimentSpec]] = MappingProxyType(
    {spec.name: spec for spec in [*_PAPER, *_DEMO, *_BENCHMARK]}
)
"""Name -> embodiment."""


def preset(name: str, *, rate_hz: float | None = None, chunk_size: int | None = None) -> EmbodimentSpec:
    """Look up a ready embodiment, with the rate and chunk size of your data.

    As it returns an `EmbodimentSpec`, YAML may use it as `class_path: vla_kit.embodiment.presets.preset`.

    Args:
        name: Key of `PRESETS`.
        rate_hz: Control frequency of your data set [Hz]; the preset's where None.
        chunk_size: Actions predicted at once; the preset's where None.

    Returns:
        The embodiment.

    Raises:
        EmbodimentError: If there is no such preset.

    Examples:
        >>> preset("franka_eef", rate_hz=20.0).action_space.size
        7

    Source:
        Qwen-VLA, arXiv 2605.30280, table 2 (robots, arms, action types) and sections 3.2.2 (hands), 4.1 (chunks of 16,
        8 waypoints). The paper is silent on tags, rates and joint counts.
    """
    if name not in PRESETS:
        raise EmbodimentError(f"name must be one of {sorted(PRESETS)}, got {name!r}. Or write an EmbodimentSpec.")
    spec = PRESETS[name]
    return replace(
        spec,
        rate_hz=spec.rate_hz if rate_hz is None else rate_hz,
        chunk_size=spec.chunk_size if chunk_size is None else chunk_size,
    )
