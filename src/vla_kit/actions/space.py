"""Action spaces: an ordered list of named channels, native to one robot and one data set."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from jaxtyping import Bool
from torch import Tensor

from vla_kit.errors import SettingError

__all__ = ["ActionSpace", "Channel", "ChannelGroup", "ChannelKind", "ChannelReference"]

ChannelKind = Literal["eef_position", "eef_rotation", "joint", "gripper", "base", "waypoint", "hand"]
"""What a channel moves."""

ChannelReference = Literal["delta", "absolute"]
"""Whether a channel is a displacement or a target."""


@dataclass(frozen=True)
class Channel:
    """One number of a native action.

    Args:
        name: Name of the channel, unique in its space.
        kind: What it moves.
        reference: `delta` for a displacement, `absolute` for a target.
        unit: Unit or meaning of the number, such as `m`, `rad` or `0 closed, 1 open`.
        normalized: Whether the normaliser rescales it. False lets it pass through untouched, as a binary gripper wants.

    Raises:
        SettingError: If a field is empty or not among its choices.

    Examples:
        >>> Channel("gripper", kind="gripper", reference="absolute", unit="0 closed, 1 open", normalized=False).name
        'gripper'

    Source:
        Qwen-VLA, arXiv 2605.30280, section 2.4 (signal types). The paper does not say how grippers are normalised.
    """

    name: str
    _: KW_ONLY
    kind: ChannelKind
    reference: ChannelReference
    unit: str
    normalized: bool = True

    def __post_init__(self) -> None:
        _check(self.name, self.kind, self.reference, self.unit)


@dataclass(frozen=True)
class ChannelGroup:
    """Neighbouring channels that share everything but their number: the short form for YAML.

    Args:
        name: Name of the group. A group of one gives a channel of this name, a larger one `name_0`, `name_1` and so on.
        kind: What the channels move.
        reference: `delta` for displacements, `absolute` for targets.
        unit: Unit or meaning of each number.
        count: How many channels, at least 1.
        normalized: Whether the normaliser rescales them. False lets them pass through untouched.

    Raises:
        SettingError: If a field is empty, below its minimum or not among its choices.

    Examples:
        >>> joints = ChannelGroup("left_joint", kind="joint", reference="absolute", unit="rad", count=2)
        >>> [channel.name for channel in joints.channels]
        ['left_joint_0', 'left_joint_1']
    """

    name: str
    _: KW_ONLY
    kind: ChannelKind
    reference: ChannelReference
    unit: str
    count: int = 1
    normalized: bool = True

    def __post_init__(self) -> None:
        _check(self.name, self.kind, self.reference, self.unit)
        if self.count < 1:
            raise SettingError(
                f"count must be at least 1, got {self.count}. Leave the group {self.name!r} out instead."
            )

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels of the group, in order."""
        names = [self.name] if self.count == 1 else [f"{self.name}_{index}" for index in range(self.count)]
        return tuple(
            Channel(name, kind=self.kind, reference=self.reference, unit=self.unit, normalized=self.normalized)
            for name in names
        )


@dataclass(frozen=True, eq=False)
class ActionSpace:
    """The native actions of one robot in one data set: named channels in order.

    Nothing is converted to a common physical meaning; two spaces of the same size may mean different things, and
    `fingerprint` tells them apart. Two spaces are equal when their channels are.

    Args:
        groups: Groups of neighbouring channels, in the order of the data.

    Raises:
        SettingError: If there is no group or two channels share a name.

    Examples:
        >>> space = ActionSpace(
        ...     [
        ...         ChannelGroup("position", kind="eef_position", reference="delta", unit="m", count=3),
        ...         ChannelGroup(
        ...             "gripper", kind="gripper", reference="absolute", unit="0 closed, 1 open", normalized=False
        ...         ),
        ...     ]
        ... )
        >>> space.size, space.names
        (4, ('position_0', 'position_1', 'position_2', 'gripper'))
        >>> space.normalized
        tensor([ True,  True,  True, False])

    Source:
        Qwen-VLA, arXiv 2605.30280, section 2.4: every data set keeps its native convention.
    """

    groups: Sequence[ChannelGroup]

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", tuple(self.groups))
        if not self.groups:
            raise SettingError("groups must hold at least one ChannelGroup, got none. Name the channels of the action.")
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            raise SettingError(f"groups must give every channel its own name, got {repeated} twice. Rename a group.")

    @cached_property
    def channels(self) -> tuple[Channel, ...]:
        """All channels, in order."""
        return tuple(channel for group in self.groups for channel in group.channels)

    @property
    def size(self) -> int:
        """Number of channels."""
        return len(self.channels)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Channel names, in order."""
        return tuple(channel.name for channel in self.channels)

    @property
    def normalized(self) -> Bool[Tensor, " size"]:
        """True where the normaliser rescales, False where a channel passes through."""
        return torch.tensor([channel.normalized for channel in self.channels])

    @cached_property
    def fingerprint(self) -> str:
        """Short hexadecimal digest of every channel, equal on every machine."""
        text = json.dumps([asdict(channel) for channel in self.channels], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return self.channels == other.channels if isinstance(other, ActionSpace) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.channels)


def _check(name: str, kind: str, reference: str, unit: str) -> None:
    for argument, value in (("name", name), ("unit", unit)):
        if not value.strip():
            raise SettingError(
                f"{argument} must hold a word, got {value!r}. Write {argument} in full, such as 'gripper'."
            )
    for argument, value, choices in (
        ("kind", kind, get_args(ChannelKind)),
        ("reference", reference, get_args(ChannelReference)),
    ):
        if value not in choices:
            raise SettingError(
                f"{argument} must be one of {choices}, got {value!r}. Choose the nearest one for {name!r}."
            )
