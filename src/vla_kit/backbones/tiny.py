"""Small random Qwen backbones with a vocabulary of their own: no download, trainable on two CPU cores."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from tokenizers import Tokenizer
from transformers import (
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from vla_kit.backbones.frames import HistoryLayout
from vla_kit.backbones.qwen_vl import QwenVLBackbone
from vla_kit.backbones.vocabulary import train_tokenizer
from vla_kit.embodiment.views import view_tokens
from vla_kit.errors import SettingError

__all__ = ["CHAT_TEMPLATE", "tiny_qwen3_5", "tiny_qwen3_vl"]

_ModelT = TypeVar("_ModelT")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}{% else %}"
    "<|vision_start|><|{{ part.type }}_pad|><|vision_end|>{% endif %}{% endfor %}{% endif %}<|endoftext|>{% endfor %}"
)
"""Chat template of the tiny backbones: role, colon, content, end. Their vocabularies hold no further special tokens."""
_SPECIAL = ("<|endoftext|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def tiny_qwen3_vl(
    *,
    corpus: Sequence[str],
    view_tags: Sequence[str],
    image_size: int = 96,
    patch_size: int = 8,
    merge_size: int = 2,
    hidden: int = 128,
    vision_layers: int = 3,
    text_layers: int = 2,
    heads: int = 4,
    vocabulary_size: int = 512,
    context_length: int = 1024,
    history: HistoryLayout = "images",
    row_tokens: int | None = None,
    seed: int = 0,
) -> QwenVLBackbone:
    """A small Qwen3-VL with random weights and a vocabulary trained on `corpus`.

    Args:
        corpus: Sentences of the prompts to come. A checkpoint brings its own vocabulary, so after
            loading one the corpus no longer matters.
        view_tags: Tags of all views that will ever be given.
        image_size: Side to which images are resized [pixel].
        patch_size: Side of a vision patch [pixel].
        merge_size: Patches per side that become one token.
        hidden: Width of vision tower and language model.
        vision_layers: Blocks of the vision tower. The middle one also feeds the first text layer (DeepStack).
        text_layers: Layers of the language model.
        heads: Attention heads of both; `hidden / heads` must be a multiple of 4, at least 8.
        vocabulary_size: Rows of the embedding, whatever the corpus gives.
        context_length: Longest sequence [token].
        history: How a view of several frames enters the sequence, see `QwenInputs`.
        row_tokens: Pack samples into rows of at most so many tokens, see `QwenVLBackbone`.
        seed: Of the random weights; the global generator is left alone.

    Raises:
        SettingError: If the heads do not divide `hidden`, a count is not positive, a view tag is repeated or malformed,
            or the vocabulary is too small.

    Examples:
        >>> backbone = tiny_qwen3_vl(corpus=["push the red block"], view_tags=["ego"], hidden=32, vision_layers=1)
        >>> backbone.width
        32

    Source:
        Layout of Qwen3-VL in transformers; the sizes are ours, for two CPU cores, and so is the standard deviation of
        the random weights, `hidden ** -0.5`.
    """
    tokenizer = _vocabulary(corpus, view_tags, vocabulary_size)
    vision, text = _sizes(
        image_size, patch_size, merge_size, hidden, vision_layers, text_layers, heads, vocabulary_size, context_length
    )
    vision["deepstack_visual_indexes"] = [vision_layers // 2]
    config = Qwen3VLConfig(vision_config=vision, text_config=text, tie_word_embeddings=True, **_token_ids(tokenizer))
    model = _seeded(lambda: Qwen3VLForConditionalGeneration(config), seed)
    return QwenVLBackbone(
        model,
        tokenizer=tokenizer,
        image_size=image_size,
        history=history,
        chat_template=CHAT_TEMPLATE,
        row_tokens=row_tokens,
    )


def tiny_qwen3_5(
    *,
    corpus: Sequence[str],
    view_tags: Sequence[str],
    image_size: int = 96,
    patch_size: int = 8,
    merge_size: int = 2,
    hidden: int = 128,
    vision_layers: int = 3,
    text_layers: int = 2,
    heads: int = 4,
    vocabulary_size: int = 512,
    context_length: int = 1024,
    history: HistoryLayout = "images",
    row_tokens: int | None = None,
    seed: int = 0,
) -> QwenVLBackbone:
    """A small Qwen3.5 with random weights and a vocabulary trained on `corpus`.

    The last layer, and every fourth before it, is full attention; the rest are gated linear attention.

    Args:
        corpus: Sentences of the prompts to come; see `tiny_qwen3_vl`.
        view_tags: Tags of all views that will ever be given.
        image_size: Side to which images are resized [pixel].
        patch_size: Side of a vision patch [pixel].
        merge_size: Patches per side that become one token.
        hidden: Width of vision tower and language model.
        vision_layers: Blocks of the vision tower.
        text_layers: Layers of the language model.
        heads: Attention heads of both; `hidden / heads` must be a multiple of 4, at least 8.
        vocabulary_size: Rows of the embedding, whatever the corpus gives.
        context_length: Longest sequence [token].
        history: How a view of several frames enters the sequence, see `QwenInputs`.
        row_tokens: Pack samples into rows of at most so many tokens, see `QwenVLBackbone`.
        seed: Of the random weights; the global generator is left alone.

    Raises:
        SettingError: If the heads do not divide `hidden`, a count is not positive, a view tag is repeated or malformed,
            or the vocabulary is too small.

    Examples:
        >>> backbone = tiny_qwen3_5(corpus=["push the red block"], view_tags=["ego"], hidden=32, vision_layers=1)
        >>> backbone.model.config.text_config.layer_types
        ['linear_attention', 'full_attention']

    Source:
        Layout of Qwen3.5 in transformers, the family of Qwen-VLA's backbone (arXiv 2605.30280, section 5.2.2); the
        sizes are ours. The whole head rotates, where Qwen3.5 rotates a quarter of its much wider heads.
    """
    tokenizer = _vocabulary(corpus, view_tags, vocabulary_size)
    vision, text = _sizes(
        image_size, patch_size, merge_size, hidden, vision_layers, text_layers, heads, vocabulary_size, context_length
    )
    head = hidden // heads
    text |= {
        "layer_types": [
            "linear_attention" if (text_layers - 1 - index) % 4 else "full_attention" for index in range(text_layers)
        ],
        "linear_key_head_dim": head,
        "linear_value_head_dim": head,
        "linear_num_key_heads": heads,
        "linear_num_value_heads": heads,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "partial_rotary_factor": 1.0,
            "mrope_section": _mrope_section(head // 2),
            "mrope_interleaved": True,
        },
    }
    config = Qwen3_5Config(vision_config=vision, text_config=text, tie_word_embeddings=True, **_token_ids(tokenizer))
    model = _seeded(lambda: Qwen3_5ForConditionalGeneration(config), seed)
    return QwenVLBackbone(
        model,
        tokenizer=tokenizer,
        image_size=image_size,
        history=history,
        chat_template=CHAT_TEMPLATE,
        row_tokens=row_tokens,
    )


def _vocabulary(corpus: Sequence[str], view_tags: Sequence[str], vocabulary_size: int) -> Tokenizer:
    if len(set(view_tags)) != len(view_tags):
        raise SettingError(f"view_tags must be distinct, got {list(view_tags)}. Name each view once.")
    special = [*_SPECIAL, *(token for tag in view_tags for token in view_tokens(tag))]
    return train_tokenizer(corpus, special_tokens=special, vocabulary_size=vocabulary_size)


def _token_ids(tokenizer: Tokenizer) -> dict[str, int | None]:
    return {
        "vision_start_token_id": tokenizer.token_to_id("<|vision_start|>"),
        "vision_end_token_id": tokenizer.token_to_id("<|vision_end|>"),
        "image_token_id": tokenizer.token_to_id("<|image_pad|>"),
        "video_token_id": tokenizer.token_to_id("<|video_pad|>"),
    }


def _mrope_section(frequencies: int) -> list[int]:
    """Share rotary frequencies among time, height and width; time takes what is left over."""
    third = frequencies // 3
    return [frequencies - 2 * third, third, third]


def _sizes(
    image_size: int,
    patch_size: int,
    merge_size: int,
    hidden: int,
    vision_layers: int,
    text_layers: int,
    heads: int,
    vocabulary_size: int,
    context_length: int,
) -> tuple[dict[str, Any], dict[str, Any]]:
    counts = {
        "vision_layers": vision_layers,
        "text_layers": text_layers,
        "heads": heads,
        "patch_size": patch_size,
        "merge_size": merge_size,
        "context_length": context_length,
    }
    for name, count in counts.items():
        if count < 1:
            raise SettingError(f"{name} must be at least 1, got {count}. Raise it.")
    if hidden % heads or (hidden // heads) % 4 or hidden // heads < 8:
        raise SettingError(
            f"hidden must be heads ({heads}) times a multiple of 4 that is at least 8, got {hidden}. "
            f"Use {heads * max(8, round(hidden / heads / 4) * 4)}."
        )
    vision: dict[str, Any] = {
        "depth": vision_layers,
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_heads": heads,
        "patch_size": patch_size,
        "spatial_merge_size": merge_size,
        "out_hidden_size": hidden,
        "num_position_embeddings": (image_size // patch_size) ** 2,
    }
    # Qwen's 0.02 is about 2560 ** -0.5; the same number at width 128 leaves a plateau of hundreds of steps
    vision["initializer_range"] = hidden**-0.5
    text = {
        "initializer_range": hidden**-0.5,
        "vocab_size": vocabulary_size,
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": text_layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": hidden // heads,
        "max_position_embeddings": context_length,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "mrope_section": _mrope_section(hidden // heads // 2),
            "mrope_interleaved": True,
        },
    }
    return vision, text


def _seeded(build: Callable[[], _ModelT], seed: int) -> _ModelT:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()
