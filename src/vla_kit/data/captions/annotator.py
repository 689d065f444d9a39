"""What captions and checks need of a model: messages with pictures in, text out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, runtime_checkable

from PIL import Image

from vla_kit.errors import SettingError

__all__ = ["Annotator", "AnnotatorAnswer", "AnnotatorMessage"]

_ROLES: Final = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class AnnotatorMessage:
    """One turn of a conversation.

    Args:
        role: Who says it.
        parts: Texts and RGB pictures, in the order in which the model reads them.

    Raises:
        SettingError: If the role is unknown, or `parts` holds nothing or is a text itself.

    Examples:
        >>> AnnotatorMessage("user", ("What is this?", Image.new("RGB", (8, 8)))).role
        'user'
    """

    role: Literal["system", "user", "assistant"]
    parts: tuple[str | Image.Image, ...]

    def __post_init__(self) -> None:
        if self.role not in _ROLES:
            raise SettingError(f"role must be one of {list(_ROLES)}, got {self.role!r}. Choose one of them.")
        if isinstance(self.parts, str) or not self.parts:
            raise SettingError(
                f"parts must be a tuple of one or more texts and pictures, got {self.parts!r}. Write a single text as "
                '("What is this?",).'
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotatorAnswer:
    """What a model has said, and what it cost.

    Args:
        text: The answer.
        input_tokens: Tokens read, pictures included; 0 where the endpoint does not say.
        output_tokens: Tokens written; 0 where the endpoint does not say.
        retries: Requests that failed before this one, through no fault of the messages.

    Examples:
        >>> AnnotatorAnswer(text="A pear.", input_tokens=70, output_tokens=3).retries
        0
    """

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    retries: int = 0


@runtime_checkable
class Annotator(Protocol):
    """A vision-language model that answers; YAML names it by `class_path`.

    Several threads may ask at a time. An annotator survives pickling, since rules that hold one do.
    """

    @property
    def model(self) -> str:
        """Name of the model, kept with what it writes."""
        ...

    def answer(
        self, messages: Sequence[AnnotatorMessage], *, schema: Mapping[str, Any] | None = None
    ) -> AnnotatorAnswer:
        """Answer a conversation.

        Args:
            messages: The conversation; the last turn is the user's.
            schema: JSON schema of the answer, for annotators that can keep to one. The caller checks the answer.

        Raises:
            AnnotatorError: If there is no answer to be had; asking about another episode would not help.
            DataError: If these messages cannot be answered, such as too many pictures.
        """
        ...
