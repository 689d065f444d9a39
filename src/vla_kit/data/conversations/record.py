"""One conversation of a file, in any of the forms that people write."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from vla_kit.errors import DataError, SettingError

__all__ = ["PictureSource", "Turn", "read_record"]

Role = Literal["system", "user", "assistant"]
_ROLES: Final[Mapping[str, Role]] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}
_MARKER: Final = re.compile(r"(<image>|<video>)")


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSource:
    """An image or a video that has not been read yet.

    Args:
        kind: What it is.
        source: Path, encoded bytes, decoded image, or for a video a list of these.
        view: Tag of the camera.
        instant: Place in time among the pictures of its message.
        rate_hz: Frames per second: those of a list of images, and those to take of a file.

    Raises:
        SettingError: If `kind` is unknown, `view` no text, `instant` no number from 0, or `rate_hz` not above 0.
    """

    kind: Literal["image", "video"]
    source: Any
    view: str | None = None
    instant: int | None = None
    rate_hz: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("image", "video"):
            raise SettingError(f"kind must be 'image' or 'video', got {self.kind!r}. Choose one of them.")
        if self.view is not None and (not isinstance(self.view, str) or not self.view):
            raise SettingError(f"view must be the tag of a camera, got {self.view!r}. Leave it out for none.")
        if self.instant is not None and (not isinstance(self.instant, int) or self.instant < 0):
            raise SettingError(f"instant must be a whole number of at least 0, got {self.instant!r}. Count from 0.")
        rate = self.rate_hz
        if rate is not None and not (isinstance(rate, int | float) and 0 < rate < math.inf):
            raise SettingError(f"rate_hz must be a number above 0, got {rate!r}. Give frames per second.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A message whose pictures have not been read yet; see `vla_kit.protocols.Message`.

    Args:
        role: Who speaks.
        content: Text and pictures, in order.
    """

    role: Role
    content: tuple[str | PictureSource, ...]


def read_record(record: Mapping[str, Any], *, where: str) -> tuple[Turn, ...]:
    r"""The turns of one record.

    - LLaVA: `conversations` of `from` (`human`, `gpt`) and `value`, and `image` or `video` beside them.
    - ShareGPT: the same with `images` and `videos`, and perhaps `system`.
    - Qwen and OpenAI: `messages` of `role` and `content`, which is text or a list of parts: `{"type": "text", "text"}`,
      `{"type": "image", "image"}`, `{"type": "video", "video"}`. A picture may also have `view` and `instant`, a video
      `rate_hz` or `fps`, which it needs where it is a list of images.

    Pictures beside the messages stand where `<image>` and `<video>` are written; where nothing is written, in front of
    the first turn of the user. Spaces around a marker are left out, as in Qwen's own training code, and so are those
    around an answer.

    Args:
        record: As JSON or a row of a table gives it; entries that are None are absent.
        where: Place of the record, for messages.

    Returns:
        The turns, at least one of them an answer.

    Raises:
        DataError: If it is none of these forms, a role is unknown, markers and pictures do not match, or nothing is
            answered.

    Examples:
        >>> record = {"image": "cup.jpg", "conversations": [
        ...     {"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A cup."}]}
        >>> for turn in read_record(record, where="test"):
        ...     print(turn.role, [part if isinstance(part, str) else part.source for part in turn.content])
        user ['cup.jpg', 'What is it?']
        assistant ['A cup.']
    """
    if not isinstance(record, Mapping):
        raise DataError(f"{where} must be an object with messages, got {record!r}. Leave it out.")
    messages = record.get("messages") or record.get("conversations")
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not len(messages):
        raise DataError(
            f"{where} must hold messages or conversations, got the keys {sorted(record)}. Convert it, for example with "
            "vla_kit.data.conversations.question_record."
        )
    turns = [_turn(message, where) for message in messages]
    system = record.get("system")
    if system is not None and not isinstance(system, str):
        raise DataError(f"{where} must have a text as system, got {system!r}. Correct the record.")
    if system and turns[0].role != "system":
        turns.insert(0, Turn(role="system", content=(system,)))
    turns = _placed(turns, _beside(record), where)
    if not any(turn.role == "assistant" for turn in turns):
        raise DataError(f"{where} must hold an answer, got the roles {[turn.role for turn in turns]}. Leave it out.")
    return tuple(turns)


def _turn(message: Any, where: str) -> Turn:  # noqa: ANN401 (what a file holds)
    if not isinstance(message, Mapping):
        raise DataError(f"{where} must hold messages with roles, got {message!r}. Write role and content of each.")
    named = str(message.get("role") or message.get("from"))
    role = _ROLES.get(named.lower())
    if role is None:
        raise DataError(f"{where} must have roles among {sorted(_ROLES)}, got {named!r}. Leave the record out.")
    content = message.get("content") if message.get("content") is not None else message.get("value")
    if isinstance(content, str):
        parts: list[str | PictureSource] = [content]
    elif isinstance(content, Sequence):
        parts = [_part(part, where) for part in content]
    else:
        raise DataError(f"{where} must have text or parts as content, got {content!r}. Write what is said.")
    if role != "assistant":
        return Turn(role=role, content=tuple(parts))
    words = [part for part in parts if isinstance(part, str)]
    answer = "".join(words).strip()
    if not answer or len(words) < len(parts):
        raise DataError(f"{where} must have answers of words alone, got {content!r}. Leave the record out.")
    return Turn(role=role, content=(answer,))


def _part(part: Any, where: str) -> str | PictureSource:  # noqa: ANN401 (what a file holds)
    if isinstance(part, str):
        return part
    known = {key: value for key, value in part.items() if value is not None} if isinstance(part, Mapping) else {}
    kinds: tuple[Literal["image", "video"], ...] = ("image", "video")
    for kind in kinds:
        if kind in known or f"{kind}_url" in known:
            source = known.get(kind, known.get(f"{kind}_url"))
            source = source["url"] if isinstance(source, Mapping) and "url" in source else source
            try:
                return PictureSource(
                    kind=kind,
                    source=source,
                    view=known.get("view"),
                    instant=known.get("instant"),
                    rate_hz=known.get("rate_hz", known.get("fps")),
                )
            except SettingError as error:
                raise DataError(f"{where} must have pictures with right tags: {error}") from error
    if isinstance(known.get("text"), str):
        return str(known["text"])
    raise DataError(f"{where} must have parts with text, image or video, got {part!r}. Leave the record out.")


def _beside(record: Mapping[str, Any]) -> dict[str, list[PictureSource]]:
    """Pictures that stand beside the messages, by marker."""
    found: dict[str, list[PictureSource]] = {}
    kinds: tuple[Literal["image", "video"], ...] = ("image", "video")
    for kind in kinds:
        several, one = record.get(f"{kind}s"), record.get(kind)
        sources = several if several is not None else one if isinstance(one, list) else [] if one is None else [one]
        found[f"<{kind}>"] = [PictureSource(kind=kind, source=source) for source in sources]
    return found


def _placed(turns: list[Turn], beside: Mapping[str, list[PictureSource]], where: str) -> list[Turn]:
    """Turns with the pictures beside them in the places of their markers."""
    written = [
        mark for turn in turns for part in turn.content if isinstance(part, str) for mark in _MARKER.findall(part)
    ]
    if not any(beside.values()):
        if written and not any(isinstance(part, PictureSource) for turn in turns for part in turn.content):
            raise DataError(f"{where} must have a picture for each {written[0]}, got none. Add image or images to it.")
        return turns
    if not written:
        first = next((place for place, turn in enumerate(turns) if turn.role == "user"), 0)
        shown = [picture for pictures in beside.values() for picture in pictures]
        return [
            replace(turn, content=(*shown, *turn.content)) if place == first else turn
            for place, turn in enumerate(turns)
        ]
    for mark, pictures in beside.items():
        if written.count(mark) != len(pictures):
            raise DataError(
                f"{where} must have one {mark} per picture ({len(pictures)}), got {written.count(mark)}. Correct the "
                "record."
            )
    left = {mark: iter(pictures) for mark, pictures in beside.items()}
    return [replace(turn, content=tuple(_filled(turn.content, left))) for turn in turns]


def _filled(content: Sequence[str | PictureSource], left: Mapping[str, Any]) -> list[str | PictureSource]:
    parts: list[str | PictureSource] = []
    for part in content:
        if not isinstance(part, str) or not _MARKER.search(part):
            parts.append(part)
            continue
        for piece in _MARKER.split(part):
            if piece in left:
                parts.append(next(left[piece]))
            elif piece.strip():
                parts.append(piece.strip())
    return parts
