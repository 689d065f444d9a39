"""A model on this machine: any image-text-to-text model of transformers, with the chat template of its processor."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from vla_kit.data.captions.annotator import AnnotatorAnswer, AnnotatorMessage
from vla_kit.errors import AnnotatorError, SettingError

__all__ = ["TransformersAnnotator"]


class TransformersAnnotator:
    """Asks a model on this machine, one conversation at a time, without sampling; satisfies `Annotator`.

    The model is loaded when it is first asked. It is not kept to a JSON schema; whoever asks checks the answer and asks
    again. An endpoint answers many requests at a time and is faster for a whole data set.

    Args:
        checkpoint: Folder or hub id of a model of transformers and its processor.
        revision: Revision on the hub.
        device: Where it runs, such as `cuda`.
        dtype: Type of its weights, such as `bfloat16`; that of the checkpoint where `auto`.
        max_tokens: Longest answer [token].

    Raises:
        SettingError: If `max_tokens` is below 1, or `checkpoint`, `revision`, `device` or `dtype` is none; when first
            asked, if the processor has no chat template.

    Examples:
        ```
        annotator = TransformersAnnotator("Qwen/Qwen3-VL-4B-Instruct", device="cuda")
        annotator.answer([AnnotatorMessage("user", ("What is this?", Image.open("pear.png")))]).text
        ```
    """

    def __init__(
        self,
        checkpoint: str,
        *,
        revision: str | None = None,
        device: str = "cpu",
        dtype: str = "auto",
        max_tokens: int = 2048,
    ) -> None:
        if not checkpoint:
            raise SettingError("checkpoint must be a folder or an id of the hub, got ''. Name a model.")
        if revision == "":
            raise SettingError("revision must name one of the hub, got ''. Leave it out for the newest.")
        if max_tokens < 1:
            raise SettingError(f"max_tokens must be at least 1, got {max_tokens}. Use 2048.")
        if dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise SettingError(f"dtype must be auto or a type of torch, got {dtype!r}. Such as bfloat16.")
        try:
            torch.device(device)
        except RuntimeError as error:
            raise SettingError(f"device must be one of torch, got {device!r}. Such as cpu or cuda.") from error
        self._checkpoint, self._revision = checkpoint, revision
        self._device, self._dtype, self._max_tokens = device, dtype, max_tokens
        self._loaded: tuple[Any, Any] | None = None
        self._lock = Lock()

    @property
    def model(self) -> str:
        """Name of the checkpoint, and its revision where there is one."""
        name = Path(self._checkpoint).name if Path(self._checkpoint).exists() else self._checkpoint
        return name if self._revision is None else f"{name}@{self._revision}"

    @torch.inference_mode()
    def answer(
        self, messages: Sequence[AnnotatorMessage], *, schema: Mapping[str, Any] | None = None
    ) -> AnnotatorAnswer:
        """Answer a conversation; `schema` is not looked at.

        Raises:
            SettingError: If the processor has no chat template.
            AnnotatorError: If the checkpoint cannot be loaded.
        """
        with self._lock:
            model, processor = self._load()
            inputs = processor.apply_chat_template(
                [_written(message) for message in messages],
                tokenize=True,
                add_generation_prompt=True,
                return_dict=True,
                return_tensors="pt",
            ).to(model.device)
            read = inputs["input_ids"].shape[1]
            written = model.generate(**inputs, max_new_tokens=self._max_tokens, do_sample=False)[0, read:]
            text = processor.decode(written, skip_special_tokens=True)
        return AnnotatorAnswer(text=text, input_tokens=read, output_tokens=len(written))

    def __repr__(self) -> str:
        return f"TransformersAnnotator({self.model!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_loaded", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._loaded, self._lock = None, Lock()

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            processor = self._read(AutoProcessor)
            if not getattr(processor, "chat_template", None):
                raise SettingError(
                    f"checkpoint must have a processor with a chat template, got {self._checkpoint}. Choose a model "
                    "that was tuned on conversations, or put chat_template.jinja beside its processor."
                )
            model = self._read(AutoModelForImageTextToText, dtype=self._dtype)
            self._loaded = model.to(self._device).eval(), processor
        return self._loaded

    def _read(self, kind: Any, **settings: Any) -> Any:  # noqa: ANN401 (`transformers` has no types)
        try:
            return kind.from_pretrained(self._checkpoint, revision=self._revision, **settings)
        except Exception as error:  # of the hub, of JSON, of safetensors, of pickle, of the model's own code
            raise AnnotatorError(
                f"checkpoint must be a model and a processor that transformers loads, got {self._checkpoint!r}: "
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no text'}. Check the name, "
                "or fetch it again."
            ) from error


def _written(message: AnnotatorMessage) -> dict[str, Any]:
    parts = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "image": part}
        for part in message.parts
    ]
    return {"role": message.role, "content": parts}
