"""Ask a model until its answer can be used."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from vla_kit.data.captions._fields import json_of
from vla_kit.data.captions.annotator import Annotator, AnnotatorMessage
from vla_kit.data.captions.prompt_folder import PromptFolder
from vla_kit.data.captions.usage import AnnotationUsage
from vla_kit.errors import DataError, SettingError

__all__ = ["ask"]

Value = TypeVar("Value")


def ask(
    annotator: Annotator,
    messages: Sequence[AnnotatorMessage],
    read: Callable[[object], Value],
    *,
    schema: Mapping[str, Any],
    prompts: PromptFolder,
    attempts: int = 3,
) -> tuple[Value, AnnotationUsage]:
    """Ask for a JSON object, and tell the model what is wrong with an answer that is none.

    Args:
        annotator: The model.
        messages: The conversation.
        read: Makes a value of the JSON object, or raises `DataError` with what is wrong.
        schema: JSON schema of the answer.
        prompts: Where the words for asking again stand.
        attempts: Answers at most.

    Returns:
        The value, and what it cost.

    Raises:
        SettingError: If `attempts` is below 1.
        DataError: If no answer could be used, with the fault of the last.
        AnnotatorError: As `Annotator.answer`.
    """
    if attempts < 1:
        raise SettingError(f"attempts must be at least 1, got {attempts}. Use 3.")
    usage, talk, fault = AnnotationUsage(), list(messages), ""
    for attempt in range(attempts):
        answer = annotator.answer(talk, schema=schema)
        usage += AnnotationUsage(
            requests=1,
            retries=answer.retries,
            repairs=int(attempt > 0),
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
        )
        try:
            return read(json_of(answer.text)), usage
        except DataError as error:
            fault = str(error)
            again = AnnotatorMessage("user", (prompts.fill("repair", fault=fault),))
            talk = [*messages, AnnotatorMessage("assistant", (answer.text or "(no words)",)), again]
    raise DataError(f"{annotator.model} must answer as asked, got no such answer in {attempts}. The last: {fault}")
