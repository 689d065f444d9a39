"""How the public parts of `vla_kit.backbones` are built."""

import functools
from pathlib import Path
from typing import Any

from contract_cases.probe import Case
from torch import nn
from transformers import (
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessor,
)

from vla_kit.backbones.image_text import ImageTextBackbone
from vla_kit.backbones.learned_rows import LearnedHead, LearnedRows
from vla_kit.backbones.lora import add_lora
from vla_kit.backbones.qwen_inputs import QwenInputs
from vla_kit.backbones.qwen_vl import QwenVLBackbone
from vla_kit.backbones.text_cache import CachedTextBackbone
from vla_kit.backbones.timm_vit import TimmBackbone
from vla_kit.backbones.tiny import CHAT_TEMPLATE, tiny_qwen3_5, tiny_qwen3_vl
from vla_kit.backbones.vision_cache import CachedVisionTower, cache_vision
from vla_kit.backbones.vocabulary import train_tokenizer

TINY = {
    "corpus": ["push the red block"],
    "view_tags": ["ego"],
    "image_size": 32,
    "patch_size": 8,
    "merge_size": 2,
    "hidden": 32,
    "vision_layers": 1,
    "text_layers": 1,
    "heads": 4,
    "vocabulary_size": 320,
    "context_length": 256,
    "history": "video",
    "row_tokens": 64,
    "seed": 3,
}


def qwen() -> QwenVLBackbone:
    """A new small backbone, which a case may change."""
    return tiny_qwen3_vl(**TINY | {"row_tokens": None})


shared_qwen = functools.cache(qwen)


@functools.cache
def paligemma() -> ImageTextBackbone:
    """A small backbone of another family."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    text = {**sizes, "vocab_size": 1536, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512}
    special = ["<pad>", "<bos>", "<eos>", "<image>", "<|ego_start|>", "<|ego_end|>"]
    tokenizer = train_tokenizer(["push"], special_tokens=special, vocabulary_size=300)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )
    processor = PaliGemmaProcessor(SiglipImageProcessor(size={"height": 28, "width": 28}, image_seq_length=4), wrapped)
    config = PaliGemmaConfig(
        vision_config={**sizes, "model_type": "siglip_vision_model", "image_size": 28, "patch_size": 14},
        text_config={**text, "model_type": "gemma", "pad_token_id": 0},
        image_token_index=tokenizer.token_to_id("<image>"),
        projection_dim=32,
        hidden_size=32,
        pad_token_id=0,
    )
    return ImageTextBackbone(PaliGemmaForConditionalGeneration(config), processor=processor)


def saved(backbone: QwenVLBackbone | ImageTextBackbone, folder: Path) -> Path:
    """Folder of a model."""
    backbone.save_pretrained(folder / "model")
    return folder / "model"


def qwen_inputs() -> dict[str, Any]:
    inputs = shared_qwen().inputs
    return {
        "tokenizer": inputs.tokenizer,
        "image_processor": inputs.image_processor,
        "vision_token_ids": inputs.vision_token_ids,
        "context_length": 128,
        "image_size": 32,
        "padding_id": 1,
        "history": "video",
        "video_token_id": inputs.video_token_id,
        "tokens_per_second": 2.0,
        "chat_template": CHAT_TEMPLATE,
        "row_tokens": 64,
    }


CASES = [
    Case(CachedTextBackbone, lambda folder: {"backbone": qwen(), "folder": folder}, meant={"folder": ("missing",)}),
    Case(
        CachedVisionTower,
        lambda folder: {"tower": qwen().model.model.visual, "folder": folder},
        meant={"folder": ("missing",)},
    ),
    Case(cache_vision, lambda folder: {"backbone": qwen(), "folder": folder}, meant={"folder": ("missing",)}),
    Case(
        ImageTextBackbone,
        lambda folder: {
            "model": paligemma().model,
            "processor": paligemma().processor,
            "layer": -2,
            "gradient_checkpointing": True,
        },
        meant={"layer": ("-1",)},
    ),
    Case(
        ImageTextBackbone.from_pretrained,
        lambda folder: {
            "source": saved(paligemma(), folder),
            "view_tags": ["wrist"],
            "layer": -2,
            "gradient_checkpointing": False,
            "dtype": "float32",
            "attention": "sdpa",
            "revision": None,
        },
        meant={"layer": ("-1",), "view_tags": ("empty",)},
    ),
    Case(
        ImageTextBackbone.from_config,
        lambda folder: {
            "source": saved(paligemma(), folder),
            "view_tags": ["wrist"],
            "layer": -2,
            "gradient_checkpointing": False,
            "attention": "sdpa",
            "revision": None,
        },
        meant={"layer": ("-1",), "view_tags": ("empty",)},
    ),
    Case(
        LearnedHead,
        lambda folder: {
            "base_layer": nn.Linear(2, 5),
            "embedding": LearnedRows(nn.Embedding(5, 2), token_ids=[3]),
        },
    ),
    Case(LearnedRows, lambda folder: {"base_layer": nn.Embedding(5, 2), "token_ids": [3]}),
    Case(
        QwenInputs,
        lambda folder: qwen_inputs(),
        meant={"padding_id": ("0",), "video_token_id": ("0",)},  # ids of the vocabulary count from 0
    ),
    Case(
        QwenVLBackbone,
        lambda folder: {
            "model": shared_qwen().model,
            "tokenizer": shared_qwen().tokenizer,
            "image_size": 32,
            "image_processor": shared_qwen().inputs.image_processor,
            "layer": -2,
            "gradient_checkpointing": False,
            "history": "video",
            "chat_template": CHAT_TEMPLATE,
            "row_tokens": 64,
        },
        meant={"layer": ("-1",)},
    ),
    Case(
        QwenVLBackbone.from_pretrained,
        lambda folder: {
            "source": saved(shared_qwen(), folder),
            "view_tags": ["wrist"],
            "image_size": 32,
            "layer": -2,
            "gradient_checkpointing": False,
            "history": "video",
            "row_tokens": 64,
            "dtype": "float32",
            "attention": "sdpa",
            "revision": None,
        },
        meant={"layer": ("-1",), "view_tags": ("empty",)},
    ),
    Case(
        QwenVLBackbone.from_config,
        lambda folder: {
            "source": saved(shared_qwen(), folder),
            "view_tags": ["wrist"],
            "image_size": 32,
            "layer": -2,
            "gradient_checkpointing": False,
            "history": "video",
            "row_tokens": 64,
            "attention": "sdpa",
            "revision": None,
        },
        meant={"layer": ("-1",), "view_tags": ("empty",)},
    ),
    Case(
        TimmBackbone,
        lambda folder: {
            "model_name": "test_vit",
            "corpus": ["push"],
            "view_tags": ["ego"],
            "image_size": 32,
            "width": 16,
            "stage": -2,
            "text_layers": 1,
            "heads": 2,
            "vocabulary_size": 300,
            "context_length": 16,
            "pretrained": False,
            "seed": 3,
        },
        meant={"corpus": ("empty",), "view_tags": ("empty",), "stage": ("-1",), "seed": ("-1", "0")},
    ),
    Case(
        tiny_qwen3_vl,
        lambda folder: dict(TINY),
        meant={"corpus": ("empty",), "view_tags": ("empty",), "seed": ("-1", "0")},
    ),
    Case(
        tiny_qwen3_5,
        lambda folder: dict(TINY),
        meant={"corpus": ("empty",), "view_tags": ("empty",), "seed": ("-1", "0")},
    ),
    Case(
        add_lora,
        lambda folder: {"backbone": qwen(), "rank": 2, "alpha": 4, "dropout": 0.1, "targets": ["q_proj"]},
    ),
]
WITHOUT_CASE: dict[str, str] = {
    "vla_kit.backbones.frames.ViewFrames": "what as_images and as_videos make of views",
    "vla_kit.backbones.packing.PerSample": "what QwenVLBackbone puts around layers of its own model",
}
