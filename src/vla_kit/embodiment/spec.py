"""What a prompt and a policy need to know of one robot in one data set."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import Literal, get_args

from vla_kit.actions import ActionSpace
from vla_kit.errors import SettingError

__all__ = ["Arms", "EmbodimentSpec", "Task"]

Arms = Literal["single", "dual"]
"""How many arms the robot acts with."""

Task = Literal["manipulation", "navigation"]
"""Which wording the prompt takes."""


@dataclass(frozen=True)
class EmbodimentSpec:
    """One robot in one data set: its words in the prompt, its control rate and its native actions.

    Args:
        name: Key of the embodiment in data, statistics and checkpoints. A robot with two action types has two names.
        robot_tag: Robot as the prompt names it, such as `Franka Panda`.
        rate_hz: Control frequency of the data set [Hz].
        chunk_size: Actions predicted at once, at least 1.
        action_space: Native action channels.
        arms: `single` or `dual`; None for a robot without arms.
        waist: Whether the waist is part of the robot.
        mobile_base: Whether the base drives.
        control_convention: What one action means, in words; written from `action_space` where None.
        task: Wording of the prompt: control actions for `manipulation`, waypoints for `navigation`.
        state_space: Native channels of the state that the robot measures of itself, all `absolute`; None where it has
            none. It matters to policies that read states alone, see `StateScaler`.

    Raises:
        SettingError: If a field is empty, out of range or not among its choices.

    Examples:
        >>> from vla_kit.actions import ActionSpace, ChannelGroup
        >>> joints = ChannelGroup("joint", kind="joint", reference="absolute", unit="rad", count=6)
        >>> robot = EmbodimentSpec(
        ...     "my_arm",
        ...     robot_tag="UR5e",
        ...     rate_hz=10.0,
        ...     chunk_size=16,
        ...     action_space=ActionSpace([joints]),
        ...     arms="single",
        ... )
        >>> robot.action_space.size
        6

    Source:
        Qwen-VLA, arXiv 2605.30280, section 2.3. `FPS` and `chunk_size` are those of the original data set.
    """

    name: str
    _: KW_ONLY
    robot_tag: str
    rate_hz: float
    chunk_size: int
    action_space: ActionSpace
    arms: Arms | None
    waist: bool = False
    mobile_base: bool = False
    control_convention: str | None = None
    task: Task = "manipulation"
    state_space: ActionSpace | None = None

    def __post_init__(self) -> None:
        for argument, text in (("name", self.name), ("robot_tag", self.robot_tag)):
            if not text.strip():
                raise SettingError(f"{argument} must hold a word, got {text!r}. Name the robot.")
        if self.control_convention is not None and not self.control_convention.strip():
            raise SettingError(
                f"control_convention must hold words, got {self.control_convention!r}. "
                "Leave it out to have it written from action_space."
            )
        if not (math.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise SettingError(f"rate_hz must be above 0 and finite, got {self.rate_hz}. Give actions per second.")
        if self.chunk_size < 1:
            raise SettingError(f"chunk_size must be at least 1, got {self.chunk_size}. Count the actions of a chunk.")
        if self.arms is not None and self.arms not in get_args(Arms):
            raise SettingError(f"arms must be one of {get_args(Arms)} or None, got {self.arms!r}. Choose one.")
        if self.task not in get_args(Task):
            raise SettingError(f"task must be one of {get_args(Task)}, got {self.task!r}. Choose one.")
        measured = () if self.state_space is None else self.state_space.channels
        moving = [channel.name for channel in measured if channel.reference != "absolute"]
        if moving:
            raise SettingError(
                f"state_space must hold absolute channels, got the displacements {moving}. A state is what the robot "
                "measures: say reference: absolute."
            )
