"""A small random Qwen2.5-VL, whose tower attends within windows; nobody but tests needs one."""

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from vla_kit.backbones.qwen_vl import QwenVLBackbone
from vla_kit.backbones.tiny import tiny_qwen3_vl


def tiny_qwen2_5_vl(*, hidden, vision_layers, vocabulary_size, image_size, history="images", seed=0, **vocabulary):
    settings = {"hidden": hidden, "vocabulary_size": vocabulary_size, "image_size": image_size, **vocabulary}
    tokenizer = tiny_qwen3_vl(vision_layers=1, **settings).tokenizer
    tokens = {"vision_start": "vision_start", "vision_end": "vision_end", "image": "image_pad", "video": "video_pad"}
    vision = {"depth": vision_layers, "hidden_size": hidden, "out_hidden_size": hidden, "intermediate_size": 64}
    vision |= {"num_heads": 4, "patch_size": 8, "window_size": 16, "fullatt_block_indexes": [vision_layers - 1]}
    text = {"vocab_size": vocabulary_size, "hidden_size": hidden, "intermediate_size": 64, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 1024}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
    config = Qwen2_5_VLConfig(
        vision_config=vision,
        text_config=text,
        tie_word_embeddings=True,
        **{f"{name}_token_id": tokenizer.token_to_id(f"<|{token}|>") for name, token in tokens.items()},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
    return QwenVLBackbone(model, tokenizer=tokenizer, image_size=image_size, history=history)
