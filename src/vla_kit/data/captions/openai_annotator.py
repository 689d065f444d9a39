"""A model behind an OpenAI-compatible endpoint: vLLM, another server of one's own, or a cloud."""

import base64
import io
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from PIL import Image

from vla_kit.data.captions.annotator import AnnotatorAnswer, AnnotatorMessage
from vla_kit.errors import AnnotatorError, DataError, MissingExtraError, SettingError

try:
    import openai
except ImportError as error:
    raise MissingExtraError("openai", extra="captions") from error

__all__ = ["OpenAIAnnotator"]

_REFUSED = (400, 413, 422)  # the fault of the messages, not of the endpoint


class OpenAIAnnotator:
    """Asks a model through the chat completions of an OpenAI-compatible endpoint; satisfies `Annotator`.

    Pictures are sent as JPEG inside the request. A request that times out, loses its connection, or meets 408, 409, 429
    or 5xx is repeated: after half a second, then twice as long each time up to eight seconds, or after what the
    endpoint says (`Retry-After`).

    Args:
        model: Name of the model, as the endpoint knows it.
        base_url: Address of the endpoint, such as `http://localhost:8000/v1`.
        api_key_variable: Environment variable that holds the key, such as `OPENAI_API_KEY`. No key is sent where None.
        timeout_s: Longest time for one request [s].
        retries: Times that a failed request is repeated.
        max_tokens: Longest answer, thoughts included [token].
        temperature: Of sampling; not sent where None, which some models ask for.
        answer_format: `schema` keeps answers to the JSON schema (vLLM, OpenAI); `object` to some JSON object; `text`
            asks for nothing, for endpoints that know neither. Answers are checked in any case.
        extra_body: Further fields of the request, such as `{chat_template_kwargs: {enable_thinking: false}}`.

    Raises:
        MissingExtraError: On import, if `openai` is not installed.
        SettingError: If the key's variable is not set, `base_url` is no address, or a number is out of range.

    Examples:
        ```
        annotator = OpenAIAnnotator(model="Qwen/Qwen3-VL-8B-Instruct", base_url="http://localhost:8000/v1")
        annotator.answer([AnnotatorMessage("user", ("What is this?", Image.open("pear.png")))]).text
        ```
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str,
        api_key_variable: str | None = None,
        timeout_s: float = 120.0,
        retries: int = 5,
        max_tokens: int = 4096,
        temperature: float | None = 0.0,
        answer_format: Literal["schema", "object", "text"] = "schema",
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        if not model:
            raise SettingError("model must name a model, got ''. Give its name as the endpoint knows it.")
        if not base_url.startswith(("http://", "https://")):
            raise SettingError(
                f"base_url must begin with http:// or https://, got {base_url!r}. Such as http://localhost:8000/v1."
            )
        if not 0 < timeout_s < math.inf:
            raise SettingError(f"timeout_s must be above 0 and finite, got {timeout_s}. Give seconds.")
        if retries < 0:
            raise SettingError(f"retries must be at least 0, got {retries}. Use 5.")
        if max_tokens < 1:
            raise SettingError(f"max_tokens must be at least 1, got {max_tokens}. Use 4096.")
        if temperature is not None and not 0 <= temperature < math.inf:
            raise SettingError(f"temperature must be at least 0 and finite, got {temperature}. Leave it out for 0.")
        if answer_format not in ("schema", "object", "text"):
            raise SettingError(
                f"answer_format must be 'schema', 'object' or 'text', got {answer_format!r}. Choose one of them."
            )
        self._model, self._base_url, self._timeout_s, self._retries = model, base_url, timeout_s, retries
        self._api_key_variable, self._answer_format = api_key_variable, answer_format
        self._settings: dict[str, Any] = {"model": model, "max_completion_tokens": max_tokens}
        if temperature is not None:
            self._settings["temperature"] = temperature
        if extra_body:
            self._settings["extra_body"] = dict(extra_body)
        self._client = self._connect()

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._model

    def answer(
        self, messages: Sequence[AnnotatorMessage], *, schema: Mapping[str, Any] | None = None
    ) -> AnnotatorAnswer:
        """Answer a conversation.

        Raises:
            AnnotatorError: If the endpoint cannot be reached, refuses the key or the model, or still fails after the
                last retry.
            DataError: If it refuses the messages (400, 413 or 422).
        """
        try:
            raw = self._client.chat.completions.with_raw_response.create(
                messages=[_written(message) for message in messages], **self._settings, **self._format(schema)
            )
            completion = raw.parse()
        except openai.APIStatusError as error:
            said = f"{error.status_code}: {_short(error.message)}"
            if error.status_code in _REFUSED:
                raise DataError(
                    f"messages must be such that {self._base_url} takes them, got {said}. Use fewer or smaller frames, "
                    "or an answer_format that it knows."
                ) from error
            raise AnnotatorError(
                f"{self._base_url} must answer for {self._model!r}, got {said}. Check the model, the key and the "
                "limits of the endpoint."
            ) from error
        except (openai.OpenAIError, ValueError) as error:  # a ValueError where the answer is no JSON
            raise AnnotatorError(
                f"{self._base_url} must answer for {self._model!r}, got {type(error).__name__}: {_short(str(error))}. "
                "Check that the endpoint runs, or raise timeout_s."
            ) from error
        choices, usage = getattr(completion, "choices", None), getattr(completion, "usage", None)
        if not choices:
            raise AnnotatorError(
                f"{self._base_url} must answer with chat completions, got none. Does base_url end as it should, such "
                "as in /v1?"
            )
        return AnnotatorAnswer(
            text=choices[0].message.content or "",
            input_tokens=0 if usage is None else usage.prompt_tokens,
            output_tokens=0 if usage is None else usage.completion_tokens,
            retries=raw.retries_taken,
        )

    def __repr__(self) -> str:
        return f"OpenAIAnnotator({self._model!r}, base_url={self._base_url!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_client"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._client = self._connect()

    def _connect(self) -> openai.OpenAI:
        variable = self._api_key_variable
        key = "none" if variable is None else os.environ.get(variable, "")
        if not key:
            raise SettingError(f"api_key_variable must name a variable that is set, got {variable!r}. Export the key.")
        return openai.OpenAI(base_url=self._base_url, api_key=key, timeout=self._timeout_s, max_retries=self._retries)

    def _format(self, schema: Mapping[str, Any] | None) -> dict[str, Any]:
        if self._answer_format == "text":
            return {}
        if self._answer_format == "object" or schema is None:
            return {"response_format": {"type": "json_object"}} if schema is not None else {}
        wanted = {"name": "answer", "strict": True, "schema": dict(schema)}
        return {"response_format": {"type": "json_schema", "json_schema": wanted}}


def _written(message: AnnotatorMessage) -> Any:  # noqa: ANN401 (a union of many typed dicts of the client)
    if message.role == "user":
        return {"role": "user", "content": [_part(part) for part in message.parts]}
    return {"role": message.role, "content": "".join(part for part in message.parts if isinstance(part, str))}


def _part(part: str | Image.Image) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    file = io.BytesIO()
    part.save(file, format="JPEG", quality=90)
    encoded = base64.b64encode(file.getvalue()).decode("ascii")
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{encoded}"}}


def _short(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:297]}..."
