"""Conversations as text: the chat template of a model, and where in its text the answers stand."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from vla_kit.embodiment.views import frame_token, view_tokens
from vla_kit.errors import SettingError
from vla_kit.losses.language import IGNORED_LABEL
from vla_kit.protocols import Conversation, Message, Picture

__all__ = ["answer_labels", "as_template_messages", "pictures", "render_chat", "write_template"]

_ROLES: Final = ("system", "user", "assistant")
_MARK: Final = "\ue000{}\ue001"  # of Unicode's private use, which no text holds


def pictures(conversation: Conversation) -> list[Picture]:
    """Images and videos of a conversation, in order.

    Args:
        conversation: Any.
    """
    return [part for message in conversation.messages for part in message.content if isinstance(part, Picture)]


def as_template_messages(conversation: Conversation, *, parts_alone: bool = False) -> list[dict[str, Any]]:
    """Messages as chat templates of transformers take them, with frame tags and view boundaries as text.

    Args:
        conversation: Any.
        parts_alone: Whether text alone is a list of one part too, as the templates of some processors want it.

    Returns:
        `role` and `content` of each message: a string where it is text alone, else a list of parts with `type` and, for
        text, `text`.

    Raises:
        SettingError: If there is no message, a role is unknown, a view tag is malformed, or a picture stands in a turn
            that is not the user's.

    Examples:
        >>> import torch
        >>> image = torch.zeros(3, 4, 4, dtype=torch.uint8)
        >>> left, right = (Picture(pixels=image, view=view, instant=0) for view in ("left", "right"))
        >>> asked = Message(role="user", content=(left, right, "Is it safe?"))
        >>> for part in as_template_messages(Conversation(messages=(asked,)))[0]["content"]:
        ...     print(part.get("text", part["type"]))
        <|frame_0|>
        <|left_start|>
        image
        <|left_end|>
        <|right_start|>
        image
        <|right_end|>
        Is it safe?

    Source:
        Qwen-VLA, arXiv 2605.30280, section 3.2.5: frame tags for several instants, view tags for several cameras, in
        conversational form. Their order is that of `QwenInputs` for robots.
    """
    if not conversation.messages:
        raise SettingError("messages must hold at least one message, got none. Leave the conversation out.")
    unknown = [message.role for message in conversation.messages if message.role not in _ROLES]
    if unknown:
        raise SettingError(f"role must be one of {_ROLES}, got {unknown}. Say who speaks.")
    written = [{"role": message.role, "content": _content(message)} for message in conversation.messages]
    for message in written if parts_alone else ():
        if isinstance(message["content"], str):
            message["content"] = [{"type": "text", "text": message["content"]}]
    return written


def _content(message: Message) -> str | list[dict[str, str]]:
    if all(isinstance(part, str) for part in message.content):
        return "".join(part for part in message.content if isinstance(part, str))
    if message.role != "user":
        raise SettingError(
            f"pictures must stand in the turns of the user, got one in a turn of the {message.role}. Move it."
        )
    parts: list[dict[str, str]] = []
    instant: int | None = None
    for part in message.content:
        if isinstance(part, str):
            parts.append({"type": "text", "text": part})
            continue
        if part.instant is not None and part.instant != instant:
            parts.append({"type": "text", "text": frame_token(part.instant)})
            instant = part.instant
        kind = {"type": "image" if part.pixels.ndim == 3 else "video"}
        if part.view is None:
            parts.append(kind)
        else:
            start, end = view_tokens(part.view)
            parts += [{"type": "text", "text": start}, kind, {"type": "text", "text": end}]
    return parts


def write_template(template: str, messages: list[dict[str, Any]]) -> str:
    """What a chat template of transformers makes of messages, without a generation prompt.

    Args:
        template: Jinja text.
        messages: As `as_template_messages` makes them.

    Raises:
        SettingError: If the template refuses the messages.

    Examples:
        >>> write_template("{% for message in messages %}[{{ message.content }}]{% endfor %}", [{"content": "a"}])
        '[a]'
    """
    try:
        written, _ = render_jinja_template([messages], chat_template=template)
    except TemplateError as error:
        raise SettingError(
            f"messages must suit the chat template, got {[message.get('role') for message in messages]}: {error}. "
            "Order the turns as the model knows them."
        ) from error
    text: str = written[0]
    return text


def render_chat(
    messages: Sequence[Mapping[str, Any]],
    *,
    apply: Callable[[list[dict[str, Any]]], str],
    rewrite: Callable[[str], str] = str,
) -> tuple[str, list[tuple[int, int]]]:
    """The text that a template makes of messages, and where in it the answers stand.

    The template writes the messages twice, once with marks in place of the answers; so it may be any template that
    copies an answer as it is. Around the answers it may write what it likes: Qwen3.5's writes an empty thought before
    the last one, which is not part of the answer, for its generation prompt gives that too.

    Args:
        messages: As `as_template_messages` makes them.
        apply: The template: messages -> text, without a generation prompt.
        rewrite: Changes what stands between the answers, such as the placeholder of a video.

    Returns:
        Text, and beginning and end of the content of each turn of the assistant [character].

    Raises:
        SettingError: If the template does not copy an answer as it is, such as one with spaces around it, or with a
            thought, that the template takes off.

    Examples:
        >>> asked = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
        >>> def template(messages):
        ...     return "".join(f"{message['role']}: {message['content']};" for message in messages)
        >>> text, answers = render_chat(asked, apply=template)
        >>> text, [text[start:end] for start, end in answers]
        ('user: 2 + 2?;assistant: 4;', ['4'])
    """
    answers = [_words(message["content"]) for message in messages if message["role"] == "assistant"]
    numbers = iter(range(len(answers)))
    marked = apply(
        [
            _said(message, _MARK.format(next(numbers))) if message["role"] == "assistant" else dict(message)
            for message in messages
        ]
    )
    text, whole, spans = "", "", []
    for number, answer in enumerate(answers):
        before, mark, marked = marked.partition(_MARK.format(number))
        text += rewrite(before)
        whole += before + answer
        spans.append((len(text), len(text) + len(answer)))
        text += answer
        if not mark:
            raise SettingError(f"chat_template must write every turn of the assistant, got none of turn {number}.")
    if whole + marked != apply([dict(message) for message in messages]):
        raise SettingError(
            f"answers must be copied by the chat template as they are, got some that it changes among {answers}. "
            "Strip spaces around an answer, and leave thoughts and tool calls out."
        )
    return text + rewrite(marked), spans


def _words(content: str | Sequence[Mapping[str, str]]) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _said(message: Mapping[str, Any], words: str) -> dict[str, Any]:
    """A message that says something else, in the form that it had."""
    return {**message, "content": words if isinstance(message["content"], str) else [{"type": "text", "text": words}]}


def answer_labels(
    ids: Sequence[int],
    offsets: Sequence[tuple[int, int]],
    answers: Sequence[tuple[int, int]],
    *,
    special: Collection[int],
) -> list[int]:
    """Labels of a rendered conversation: the tokens of every answer and the token that ends its turn.

    A token belongs to an answer when it begins there. The token right behind an answer is learned too where it is a
    special one (`<|im_end|>`), for with it the model says that it is done; what a template writes after it, such as a
    line end, is not.

    Args:
        ids: Tokens of the text.
        offsets: Beginning and end of each token in the text [character].
        answers: Beginning and end of each answer in the text [character].
        special: Ids of the special tokens of the vocabulary.

    Returns:
        Per token its id where it is learned, else `IGNORED_LABEL`.

    Examples:
        The text `Q:ab;`, in which the answer `ab` is one token and `;` is special:

        >>> answer_labels([7, 8, 9], [(0, 2), (2, 4), (4, 5)], [(2, 4)], special={9})
        [-100, 8, 9]
    """
    labels = [IGNORED_LABEL] * len(ids)
    turns = iter(answers)
    turn = next(turns, None)
    for place, (token, (start, _)) in enumerate(zip(ids, offsets, strict=True)):
        if turn is not None and start >= turn[1]:
            if start == turn[1] and token in special:
                labels[place] = token
                turn = next(turns, None)
                continue
            while turn is not None and start >= turn[1]:
                turn = next(turns, None)
        if turn is not None and start >= turn[0]:
            labels[place] = token
    return labels
