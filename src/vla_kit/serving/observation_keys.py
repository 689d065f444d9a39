"""From what a client sends to what a policy takes: where each robot's messages keep pictures, words and state."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from vla_kit.embodiment import check_view_tag
from vla_kit.errors import DataError, EmbodimentError, SettingError, ShapeError
from vla_kit.policy import PolicyObservation
from vla_kit.policy.observation import image_tensor
from vla_kit.serving.pictures import decode_picture

__all__ = ["ObservationKeys", "ObservationReader"]

_OPENPI_VIEWS: Final = {"cam_high": "observation/image", "cam_left_wrist": "observation/wrist_image"}
_PLAIN: Final = "views"


@dataclass(frozen=True, kw_only=True)
class ObservationKeys:
    """Where the messages of one robot's client keep what its policy needs.

    A key with slashes is looked up as it is, then as a path: `images/front` is also `message["images"]["front"]`.

    Args:
        embodiment: Robot, as the policy's prompter knows it.
        views: View tag -> key of the picture, in the order in which the views enter the sequence; a message must have
            all of them. Where None, a message may name its views itself (`{"views": {tag: picture}}`) or have
            some of openpi's pictures: `observation/image` is `cam_high`, `observation/wrist_image` `cam_left_wrist`.
        instruction: Key of the words.
        default_instruction: Words for clients that send none, as a robot with one task may.
        state: Key of the robot's state, one row of numbers; needed where the policy reads the state of this robot.

    Raises:
        SettingError: If a view tag may not name a view, or `views`, a name or a key is empty.

    Examples:
        >>> ObservationKeys(embodiment="widowx", views={"cam_high": "images/front"}).instruction
        'prompt'

    Source:
        The default keys are those that openpi's LIBERO example sends (github.com/Physical-Intelligence/openpi,
        `examples/libero/main.py`); the view tags are ours.
    """

    embodiment: str
    views: dict[str, str] | None = None
    instruction: str = "prompt"
    default_instruction: str | None = None
    state: str = "observation/state"

    def __post_init__(self) -> None:
        for name in ("embodiment", "instruction", "default_instruction", "state"):
            if getattr(self, name) == "":
                raise SettingError(f"{name} must not be empty, got ''. Leave it out for the default.")
        if self.views is not None and not self.views:
            raise SettingError(
                f"views of {self.embodiment!r} must name at least one picture, got none. Leave views out instead."
            )
        for tag, key in (self.views or {}).items():
            check_view_tag(tag)
            if not key:
                raise SettingError(f"views[{tag!r}] must be the key of a picture, got ''. Write it as clients do.")


class ObservationReader:
    """Turns the messages of clients into observations, and refuses what the policy should not see.

    A message says which robot it comes from under `embodiment`, unless only one robot is served. Pictures are uint8
    arrays, colour last or first, or the bytes of a JPEG or PNG. Where a policy sees a history, the frames of a view are
    stacked, oldest first, and the message says their `frame_rate_hz`. The plain form of a message, whatever the
    robot's keys:
    `{"embodiment": ..., "instruction": ..., "views": {tag: picture}, "state": ...}`.

    Args:
        robots: One entry per robot, each with an embodiment of its own.
        state_sizes: Embodiment -> numbers of the state, for the robots whose state the policy reads. The others may
            send one, of any size.
        max_pixels: Largest height times width of a picture, times its frames.

    Raises:
        SettingError: If there is no robot or two share an embodiment.

    Examples:
        >>> reader = ObservationReader([ObservationKeys(embodiment="widowx")])
        >>> picture = np.zeros((224, 224, 3), dtype=np.uint8)
        >>> seen = reader({"observation/image": picture, "prompt": "lift the cup"})
        >>> seen.embodiment, seen.instruction, list(seen.views)
        ('widowx', 'lift the cup', ['cam_high'])
    """

    def __init__(
        self,
        robots: Sequence[ObservationKeys],
        *,
        state_sizes: Mapping[str, int] | None = None,
        max_pixels: int = 4096 * 4096,
    ) -> None:
        names = [robot.embodiment for robot in robots]
        if not names:
            raise SettingError("robots must hold at least one ObservationKeys, got none. Name the robots to serve.")
        if len(set(names)) < len(names):
            raise SettingError(f"robots must have an embodiment each, got {names}. Drop one of them.")
        if max_pixels < 1:
            raise SettingError(f"max_pixels must be at least 1, got {max_pixels}. Give height times width.")
        self.robots = {robot.embodiment: robot for robot in robots}
        self.state_sizes = dict(state_sizes or {})
        self.max_pixels = max_pixels

    def blanks(self, size: int) -> list[PolicyObservation]:
        """Observations to warm a policy up: for each robot one of black pictures, with a state of zeros if need be.

        Args:
            size: Height and width of the pictures [pixel].
        """
        black = np.zeros((size, size, 3), dtype=np.uint8)
        return [
            PolicyObservation(
                embodiment=name,
                instruction="warm up",
                views=dict.fromkeys(list(_OPENPI_VIEWS)[:1] if robot.views is None else robot.views, black),
                state=np.zeros(self.state_sizes[name], dtype=np.float32) if name in self.state_sizes else None,
            )
            for name, robot in self.robots.items()
        ]

    def __call__(self, message: Mapping[str, Any]) -> PolicyObservation:
        """Read one message.

        Args:
            message: As `unpack_message` gives it.

        Returns:
            The observation, its pictures as tensors with the colours first.

        Raises:
            EmbodimentError: If the robot is unknown or not said.
            DataError: If a camera, the words or the state is missing or broken, NaN included.
            DtypeError: If a picture is not uint8.
            ShapeError: If a picture has the wrong shape or is too large.
        """
        robot = self._robot(message)
        plain = _PLAIN in message
        words = _find(message, "instruction" if plain else robot.instruction)
        words = robot.default_instruction if words is None else words
        if not isinstance(words, str) or not words.strip():
            raise DataError(
                f"{'instruction' if plain else robot.instruction} must be a text, got {words!r}. Say what to do."
            )
        state = self._state(_find(message, "state" if plain else robot.state), robot, plain=plain)
        pictures = _plain_pictures(message, robot) if plain else _pictures(message, robot)
        views = {tag: self._view(picture, tag=tag) for tag, picture in pictures.items()}
        return PolicyObservation(
            embodiment=robot.embodiment,
            instruction=words,
            views=views,
            state=state,
            frame_rate_hz=_rate(message.get("frame_rate_hz")),
        )

    def _robot(self, message: Mapping[str, Any]) -> ObservationKeys:
        name = message.get("embodiment")
        if name is None and len(self.robots) == 1:
            return next(iter(self.robots.values()))
        if not isinstance(name, str) or name not in self.robots:
            raise EmbodimentError(
                f"embodiment must be one of {sorted(self.robots)}, got {name!r}. Put it into every message."
            )
        return self.robots[name]

    def _state(self, state: Any, robot: ObservationKeys, *, plain: bool) -> np.ndarray | None:  # noqa: ANN401 (whatever a client sent)
        key, size = "state" if plain else robot.state, self.state_sizes.get(robot.embodiment)
        if state is None and size is None:
            return None
        flat = isinstance(state, list) and all(isinstance(number, int | float) for number in state)
        numbers = np.asarray(state) if flat or isinstance(state, np.ndarray) else np.zeros((), dtype=object)
        if numbers.ndim != 1 or numbers.dtype.kind not in "biuf" or size not in (None, len(numbers)):
            wanted = "one row of numbers" if size is None else f"one row of {size} numbers"
            got = "none" if state is None else f"{type(state).__name__} of shape {numbers.shape}"
            raise DataError(f"{key} of {robot.embodiment!r} must be {wanted}, got {got}. Send what the robot measures.")
        if not np.isfinite(numbers).all():
            raise DataError(f"{key} must be finite, got NaN or infinity. Check the robot's driver.")
        return numbers.astype(np.float32)

    def _view(self, picture: Any, *, tag: str) -> UInt8[Tensor, "*frame 3 height image_width"]:  # noqa: ANN401 (whatever a client sent)
        if isinstance(picture, bytes):
            picture = decode_picture(picture, key=f"views[{tag!r}]", max_pixels=self.max_pixels)
        if not isinstance(picture, np.ndarray):
            raise DataError(
                f"views[{tag!r}] must be an array or the bytes of a JPEG or PNG, got {type(picture).__name__}."
            )
        tensor = image_tensor(picture, tag=tag)
        if not 0 < tensor.numel() // 3 <= self.max_pixels:
            raise ShapeError(
                f"views[{tag!r}] must have 1 to {self.max_pixels} pixels, got the shape {picture.shape}. Resize it."
            )
        return tensor


def _find(message: Mapping[str, Any], key: str) -> Any:  # noqa: ANN401 (whatever the client sent)
    """Value of a key, or of a path through nested maps; None where there is none."""
    if key in message:
        return message[key]
    value: Any = message
    for part in key.split("/"):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def _pictures(message: Mapping[str, Any], robot: ObservationKeys) -> dict[str, Any]:
    keys = _OPENPI_VIEWS if robot.views is None else robot.views
    found = {tag: picture for tag, key in keys.items() if (picture := _find(message, key)) is not None}
    missing = [keys[tag] for tag in keys if tag not in found]
    if missing and (robot.views is not None or not found):
        raise DataError(
            f"message of {robot.embodiment!r} must have the pictures {list(keys.values())}, got none under {missing} "
            f"among {_names(message)}. Send them, or serve the robot with other views."
        )
    return found


def _plain_pictures(message: Mapping[str, Any], robot: ObservationKeys) -> dict[str, Any]:
    sent = message[_PLAIN]
    if not isinstance(sent, Mapping) or not sent or not all(isinstance(tag, str) for tag in sent):
        raise DataError(f"views must map view tags to pictures, got {type(sent).__name__}. Send {{tag: picture}}.")
    expected = list(sent) if robot.views is None else list(robot.views)
    if set(sent) != set(expected):
        raise DataError(
            f"views of {robot.embodiment!r} must be the pictures of {expected}, got {_names(sent)}. Send exactly these."
        )
    return {check_view_tag(tag): sent[tag] for tag in expected}


def _rate(rate_hz: Any) -> float | None:  # noqa: ANN401 (whatever a client sent)
    if rate_hz is None:
        return None
    if not isinstance(rate_hz, int | float) or not 0 < rate_hz < math.inf:
        raise DataError(f"frame_rate_hz must be a number above 0, got {rate_hz!r}. Give frames per second.")
    return float(rate_hz)


def _names(message: Mapping[Any, Any]) -> list[str]:
    return sorted(str(name) for name in message)[:32]
