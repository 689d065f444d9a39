"""Any image-text-to-text model of transformers, such as PaliGemma or SmolVLM, as the backbone of a policy."""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoProcessor, PreTrainedModel, ProcessorMixin

from vla_kit.backbones._pretrained import (
    apply_keeping_rotary,
    check_layer,
    load_model,
    random_model,
    reading,
    refuse_adapters,
    set_gradient_checkpointing,
)
from vla_kit.backbones.chat import answer_labels, as_template_messages, pictures, render_chat
from vla_kit.backbones.frames import ViewFrames, as_images
from vla_kit.backbones.images import view_image
from vla_kit.backbones.qwen_vl import add_view_tokens
from vla_kit.backbones.vocabulary import tokenizer_from_tensor, tokenizer_to_tensor
from vla_kit.embodiment.views import view_tokens, wrap_view
from vla_kit.errors import CheckpointError, SettingError, ShapeError
from vla_kit.losses import projected_next_token_loss
from vla_kit.losses.language import IGNORED_LABEL
from vla_kit.protocols import Context, Conversation, Observation, Picture

__all__ = ["ImageTextBackbone"]

_PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")


class ImageTextBackbone(nn.Module):
    """Model and processor of transformers as `Backbone`, whatever the family: observations in, states of a layer out.

    Each view becomes `<|tag_start|>placeholder<|tag_end|>`, in the order of `Observation.views`; the prompt follows.
    Frames of a history are images, instant by instant, oldest first, each behind its frame tag (see `as_images`).
    The model's own processor sets the size of images, replaces the placeholder, and may add tokens of its own
    (PaliGemma's puts the start token after the last image and a line end after the prompt). An observation without
    views goes to the tokenizer alone. Conversations are written by the processor's chat template, and their answers
    labelled, see `answer_labels`; their pictures are images. Padding is on the right. Positions count along the
    sequence and are equal on the three axes of `Context`; a Qwen model has positions of its own and belongs in
    `QwenVLBackbone`.

    Whether a token sees the tokens after it is the model's rule: PaliGemma's prompt is attended in both directions, so
    a next-token loss on its logits would be shown the answers. It has no chat template, and conversations are refused.

    Args:
        model: Image-text-to-text model of transformers, with one position per token.
        processor: Its processor, whose tokenizer has the tokens of the view tags; copied.
        layer: Which states feed the action head, counted from the end: -1 the last layer after the final norm,
            -2 the output of the layer before it, and so on.
        gradient_checkpointing: Whether layers compute their activations again on the way back in training instead of
            keeping them: less memory, more time, the same gradients.

    Raises:
        SettingError: If the model has three-axis positions, `layer` is no layer of it, or the tokenizer has more tokens
            than the model has embeddings.

    Source:
        View boundary tokens: Qwen-VLA, arXiv 2605.30280, section 3.2.1. The paper has a Qwen backbone only.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        processor: ProcessorMixin,
        layer: int = -1,
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if hasattr(model.model, "get_rope_index"):
            raise SettingError(
                f"model must have one position per token, got {type(model).__name__} with three axes. "
                "Use vla_kit.backbones.qwen_vl.QwenVLBackbone."
            )
        text = model.config.get_text_config()
        check_layer(layer, text.num_hidden_layers)
        rows, known = model.get_input_embeddings().num_embeddings, len(processor.tokenizer)
        if known > rows:
            raise SettingError(
                f"processor must have at most as many tokens as the model has embeddings ({rows}), got {known}. "
                "Load both with from_pretrained, which makes room."
            )
        if gradient_checkpointing:
            set_gradient_checkpointing(model)
        self.model = model
        self.layer = layer
        self.context_length = int(text.max_position_embeddings)
        self.processor = copy.deepcopy(processor)
        self.processor.tokenizer.padding_side = "right"
        self._accepted = frozenset(inspect.signature(model.model.forward).parameters)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        view_tags: Sequence[str],
        layer: int = -1,
        gradient_checkpointing: bool = False,
        dtype: Literal["float32", "bfloat16", "float16", "auto"] = "auto",
        attention: str = "sdpa",
        revision: str | None = None,
    ) -> "ImageTextBackbone":
        """Load weights and processor.

        Args:
            source: Folder that `save_pretrained` wrote, or a hub id such as `google/paligemma-3b-pt-224`.
            view_tags: Tags of all views that will ever be given; their tokens are added to the vocabulary.
            layer: As in the constructor.
            gradient_checkpointing: As in the constructor.
            dtype: Of the parameters; `auto` keeps what the checkpoint says.
            attention: Attention implementation of transformers: `eager`, `sdpa`, `flash_attention_2` or another.
            revision: Branch, tag or commit of a hub id.

        Returns:
            The backbone, in evaluation mode as transformers loads it.

        Raises:
            CheckpointError: If `source` is neither a whole folder nor a reachable hub id, or lacks a weight.
            SettingError: If this machine or model lacks the attention implementation.
        """
        model = load_model(source, dtype=dtype, attention=attention, revision=revision)
        return cls._load_rest(model, source, revision, view_tags, layer, gradient_checkpointing)

    @classmethod
    def from_config(
        cls,
        source: str | Path,
        *,
        view_tags: Sequence[str],
        layer: int = -1,
        gradient_checkpointing: bool = False,
        attention: str = "sdpa",
        revision: str | None = None,
    ) -> "ImageTextBackbone":
        """Build with random weights from a configuration and a processor; the weights come from a checkpoint later.

        Args:
            source: Folder or hub id with `config.json` and the files of the processor.
            view_tags: As in `from_pretrained`.
            layer: As in the constructor.
            gradient_checkpointing: As in the constructor.
            attention: Attention implementation of transformers.
            revision: Branch, tag or commit of a hub id.

        Raises:
            CheckpointError: If `source` is neither a whole folder nor a reachable hub id.
            SettingError: If this machine or model lacks the attention implementation.
        """
        model = random_model(source, attention=attention, revision=revision)
        return cls._load_rest(model, source, revision, view_tags, layer, gradient_checkpointing)

    @classmethod
    def _load_rest(
        cls,
        model: PreTrainedModel,
        source: str | Path,
        revision: str | None,
        view_tags: Sequence[str],
        layer: int,
        gradient_checkpointing: bool,
    ) -> "ImageTextBackbone":
        with reading(source):
            processor = AutoProcessor.from_pretrained(source, revision=revision)
        add_view_tokens(model, processor.tokenizer.backend_tokenizer, view_tags)
        return cls(model, processor=processor, layer=layer, gradient_checkpointing=gradient_checkpointing)

    @property
    def width(self) -> int:
        """Features of one context token."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary in use."""
        vocabulary: Tokenizer = self.processor.tokenizer.backend_tokenizer
        return vocabulary

    def prepare(
        self, observations: Sequence[Observation | Conversation], *, with_labels: bool = False
    ) -> dict[str, Tensor]:
        """Tokens, positions and pixels of a batch, on the CPU; no network.

        Args:
            observations: At least one; samples may have different views, or none.
            with_labels: Whether to say which tokens a language loss asks for.

        Returns:
            `input_ids` [batch token], `attention_mask` [batch token] bool, `position_ids` [axis batch token] and what
            else the processor makes for the model, such as `pixel_values` in the family's own layout. With labels also
            `labels` [batch token]: the token where it is an answer's, else -100, unshifted.

        Raises:
            ShapeError: If there is no observation, or a view is neither `[3, height, width]` nor
                `[frame, 3, height, width]`.
            DtypeError: If an image is not uint8.
            SettingError: If a view tag is not in the vocabulary, a prompt or message contains the placeholder of an
                image, a sequence is empty or longer than the context, or a conversation holds a video or cannot be
                written by the chat template.
        """
        if not observations:
            raise ShapeError("observations must hold at least one observation, got 0. Drop empty batches.")
        texts, images, answers = [], [], []
        for index, one in enumerate(observations):
            if isinstance(one, Conversation):
                text, spans = self._chat(one, index)
                own = [view_image(picture.view or "picture", picture.pixels, None) for picture in pictures(one)]
            else:
                shown = as_images({tag: view_image(tag, view, None) for tag, view in one.views.items()})
                text, spans = self._text(one.prompt, shown, index), []
                own = [entry.frames[0] for entry in shown]
            texts.append(text)
            images.append(own)
            answers.append(spans)
        seeing = [index for index, views in enumerate(images) if views]
        blind = [index for index, views in enumerate(images) if not views]
        parts: list[tuple[list[int], Mapping[str, Tensor]]] = []
        if seeing:
            made = self.processor(
                text=[texts[index] for index in seeing],
                images=[images[index] for index in seeing],
                padding=True,
                return_tensors="pt",
            )
            parts.append((seeing, made))
        if blind:
            tokenizer = self.processor.tokenizer
            parts.append((blind, tokenizer([texts[index] for index in blind], padding=True, return_tensors="pt")))

        length = max(part["input_ids"].shape[1] for _, part in parts)
        whole = {name: torch.zeros(len(texts), length, dtype=torch.long) for name in self._per_token()}
        whole["input_ids"] += self.processor.tokenizer.pad_token_id
        for rows, part in parts:
            for name in whole.keys() & part.keys():
                whole[name][rows, : part[name].shape[1]] = part[name].long()
        mask = whole["attention_mask"].bool()
        for index, count in enumerate(mask.sum(1).tolist()):
            if not 0 < count <= self.context_length:
                raise SettingError(
                    f"prompt and views must make 1 to {self.context_length} tokens, got {count} in observation "
                    f"{index}. Shorten the prompt, use fewer views, or a model with a longer context."
                )
        if with_labels:
            whole["labels"] = torch.full_like(whole["input_ids"], IGNORED_LABEL)
            for index, spans in enumerate(answers):
                if spans:
                    real = mask[index]
                    whole["labels"][index, real] = self._labels(texts[index], spans, whole["input_ids"][index, real])
        positions = torch.where(mask, mask.long().cumsum(1) - 1, 0)
        extra = {
            name: tensor
            for _, part in parts
            for name, tensor in part.items()
            if name in self._accepted and name not in _PER_TOKEN
        }
        return {**whole, "attention_mask": mask, "position_ids": positions.expand(3, -1, -1).clone(), **extra}

    def forward(self, inputs: Mapping[str, Tensor], *, with_logits: bool = False) -> Context:
        """Run the model.

        Args:
            inputs: What `prepare` returned, on any device.
            with_logits: Whether to run the language head on every token.

        Returns:
            States, mask and positions, and the language loss where the inputs hold labels; for it the language head
            runs on the labelled tokens alone. The vision tower does not run for a batch without images.
        """
        embedding = self.model.get_input_embeddings().weight
        tensors = {
            name: tensor.to(
                embedding.device, embedding.dtype if tensor.is_floating_point() else tensor.dtype, non_blocking=True
            )
            for name, tensor in inputs.items()
        }
        position_ids = tensors.pop("position_ids")  # padding is on the right, so the model's own count is the same
        labels = tensors.pop("labels", None)
        output = self.model.model(**tensors, use_cache=False, output_hidden_states=self.layer != -1)
        last, head = output.last_hidden_state, self.model.get_output_embeddings()
        return Context(
            hidden=last if self.layer == -1 else output.hidden_states[self.layer],
            mask=tensors["attention_mask"],
            position_ids=position_ids,
            logits=head(last) if with_logits else None,
            language_loss=None if labels is None else projected_next_token_loss(last, labels, project=head),
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights, configuration and processor where `from_pretrained` finds them.

        Args:
            folder: Made if absent.

        Raises:
            CheckpointError: If the model has LoRA adapters that are not merged.
        """
        self.save_config(folder)
        self.model.save_pretrained(folder)

    def save_config(self, folder: str | Path) -> None:
        """Write configuration and processor where `from_config` finds them, without weights.

        Args:
            folder: Made if absent.

        Raises:
            CheckpointError: If the model has LoRA adapters that are not merged.
        """
        refuse_adapters(self.model)
        self.model.config.save_pretrained(folder)
        self.processor.save_pretrained(folder)

    def init_args(self) -> dict[str, Any]:
        """Arguments of `from_config` beside the folder of `save_config`; its vocabulary has the view tags."""
        return {"view_tags": [], "layer": self.layer, "attention": self.model.config._attn_implementation}

    def get_extra_state(self) -> Tensor:
        """The vocabulary as JSON bytes, which a weights-only load accepts."""
        return tokenizer_to_tensor(self.tokenizer)

    def set_extra_state(self, state: Tensor) -> None:
        """Check that a checkpoint was trained with the vocabulary of this backbone.

        Args:
            state: What `get_extra_state` returned.

        Raises:
            CheckpointError: If the vocabularies differ.
        """
        here = self.processor.tokenizer.get_vocab()
        differing = dict(here.items() ^ tokenizer_from_tensor(state).get_vocab().items())
        if differing:
            raise CheckpointError(
                f"state must hold the vocabulary of this backbone, got one with {len(differing)} other tokens such "
                f"as {sorted(differing)[:4]}. Build the backbone with the source and view_tags of the checkpoint."
            )

    def _per_token(self) -> list[str]:
        made = set(self.processor.model_input_names)
        return [*_PER_TOKEN[:2], *(name for name in _PER_TOKEN[2:] if name in self._accepted & made)]

    def _text(self, prompt: str, shown: Sequence[ViewFrames], index: int) -> str:
        placeholder = self.processor.image_token
        if placeholder in prompt:
            raise SettingError(
                f"prompt must not contain {placeholder!r}, got it in observation {index}. Give images as views."
            )
        self._check_views([entry.tag for entry in shown], index)
        return "".join(entry.before + wrap_view(entry.tag, placeholder) for entry in shown) + prompt

    def _check_views(self, tags: Sequence[str], index: int) -> None:
        for tag in tags:
            if any(self.tokenizer.token_to_id(token) is None for token in view_tokens(tag)):
                raise SettingError(
                    f"views must have tags of the vocabulary, got {tag!r} in observation {index}. "
                    "Name it in view_tags when the backbone is built."
                )

    def _chat(self, conversation: Conversation, index: int) -> tuple[str, list[tuple[int, int]]]:
        """Text of a conversation, and where in it the answers stand."""
        if self.processor.chat_template is None:
            raise SettingError(
                f"processor must have a chat template where a batch holds conversations, got none and one in "
                f"observation {index}. Use a model that was trained to chat."
            )
        placeholder = self.processor.image_token
        for part in (part for message in conversation.messages for part in message.content):
            if isinstance(part, str) and placeholder in part:
                raise SettingError(
                    f"messages must not contain {placeholder!r}, got it in observation {index}. "
                    "Give images as pictures."
                )
            if isinstance(part, Picture) and part.pixels.ndim != 3:
                raise SettingError(
                    f"pictures must be images, got a video in observation {index}. Give its frames as images."
                )
        self._check_views([picture.view for picture in pictures(conversation) if picture.view is not None], index)
        messages = as_template_messages(conversation, parts_alone=True)
        text, answers = render_chat(messages, apply=partial(self.processor.apply_chat_template, tokenize=False))
        tokenizer = self.processor.tokenizer
        first = tokenizer.bos_token
        if first and text.startswith(first) and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]:
            # template and tokenizer would both begin the text; transformers lets the template alone do it
            text, answers = text[len(first) :], [(start - len(first), end - len(first)) for start, end in answers]
        return text, answers

    def _labels(self, text: str, answers: Sequence[tuple[int, int]], ids: Tensor) -> Tensor:
        """Labels of the tokens of one sample, in which the processor has put runs of tokens for the placeholders."""
        encoded = self.tokenizer.encode(text, add_special_tokens=False)
        special = {number for number, token in self.tokenizer.get_added_tokens_decoder().items() if token.special}
        marked = answer_labels(encoded.ids, encoded.offsets, answers, special=special)
        image = self.tokenizer.token_to_id(self.processor.image_token)
        labels, whole, end = torch.full_like(ids, IGNORED_LABEL), ids.tolist(), len(ids)
        borders = [place for place, token in enumerate(encoded.ids) if token == image]
        for begin, stop in reversed(list(zip([0, *(place + 1 for place in borders)], [*borders, None], strict=True))):
            chunk, wanted = encoded.ids[begin:stop], marked[begin:stop]
            if all(label == IGNORED_LABEL for label in wanted):
                continue
            start = next((at for at in range(end - len(chunk), -1, -1) if whole[at : at + len(chunk)] == chunk), None)
            if start is None:
                raise SettingError(
                    f"processor must leave the text between images as it is, got other tokens for {text!r}. Use "
                    "QwenVLBackbone for Qwen, or another model."
                )
            labels[start : start + len(chunk)] = torch.tensor(wanted)
            end = start
        return labels

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        apply_keeping_rotary(self, lambda: super(ImageTextBackbone, self)._apply(fn, recurse))
        return self
