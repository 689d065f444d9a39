"""A tiny random checkpoint with the real chat template of Qwen3-VL."""

import pickle

import pytest
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast, Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

from vla_kit.backbones.tiny import tiny_qwen3_vl
from vla_kit.data.captions.annotator import Annotator, AnnotatorMessage
from vla_kit.data.captions.transformers_annotator import TransformersAnnotator
from vla_kit.errors import SettingError

MESSAGES = [
    AnnotatorMessage("system", ("Be brief.",)),
    AnnotatorMessage("user", ("Look: ", Image.new("RGB", (64, 48), (200, 0, 0)), "What is it?")),
]


@pytest.fixture(scope="module")
def checkpoint(shared_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    backbone = tiny_qwen3_vl(
        corpus=["look what is it be brief"], view_tags=["ego"], hidden=32, vision_layers=1, text_layers=1, seed=1
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backbone.tokenizer,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        extra_special_tokens={"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
    )
    pixels = Qwen2VLImageProcessor(patch_size=8, merge_size=2, size={"shortest_edge": 256, "longest_edge": 4096})
    template = (shared_data / "templates" / "qwen3_vl.jinja").read_text(encoding="utf-8")
    videos = Qwen3VLVideoProcessor(patch_size=8, merge_size=2)
    Qwen3VLProcessor(pixels, tokenizer, videos, chat_template=template).save_pretrained(folder)
    backbone.model.save_pretrained(folder)
    return folder


def test_a_model_answers_through_its_own_template(checkpoint):
    annotator = TransformersAnnotator(str(checkpoint), max_tokens=5)
    assert isinstance(annotator, Annotator)
    answer = annotator.answer(MESSAGES, schema={"type": "object"})
    assert answer.output_tokens == 5
    model, processor = annotator._load()
    turns = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look: "},
                {"type": "image"},
                {"type": "text", "text": "What is it?"},
            ],
        },
    ]
    text = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text.endswith("<|im_start|>assistant\n")
    inputs = processor(text=[text], images=[MESSAGES[1].parts[1]], return_tensors="pt")
    assert answer.input_tokens == inputs["input_ids"].shape[1]
    with torch.inference_mode():
        ids = inputs
        for _ in range(5):  # greedy, step by step, without a cache
            following = model(**ids, use_cache=False).logits[0, -1].argmax()
            grown = torch.cat([ids["input_ids"], following[None, None]], dim=1)
            kinds = torch.cat([ids["mm_token_type_ids"], torch.zeros(1, 1, dtype=torch.long)], dim=1)
            ids = {**ids, "input_ids": grown, "mm_token_type_ids": kinds, "attention_mask": torch.ones_like(grown)}
    written = ids["input_ids"][0, answer.input_tokens :]
    assert answer.text == processor.decode(written, skip_special_tokens=True)


def test_the_picture_is_looked_at(checkpoint):
    annotator = TransformersAnnotator(str(checkpoint), max_tokens=8)
    other = [MESSAGES[0], AnnotatorMessage("user", ("Look: ", Image.effect_noise((64, 48), 90).convert("RGB"), "It?"))]
    same = [MESSAGES[0], AnnotatorMessage("user", ("Look: ", Image.new("RGB", (64, 48), (0, 0, 255)), "It?"))]
    assert annotator.answer(other).input_tokens == annotator.answer(same).input_tokens
    assert annotator.answer(other).text != annotator.answer(same).text


def test_an_annotator_travels_without_its_model(checkpoint):
    annotator = TransformersAnnotator(str(checkpoint), revision="v1", max_tokens=2)
    annotator._revision = None
    first = annotator.answer(MESSAGES)
    assert len(pickle.dumps(annotator)) < 1000
    assert pickle.loads(pickle.dumps(annotator)).answer(MESSAGES) == first


def test_names_and_settings(checkpoint, tmp_path):
    assert TransformersAnnotator("Qwen/Qwen3-VL-4B-Instruct", revision="main").model == "Qwen/Qwen3-VL-4B-Instruct@main"
    assert TransformersAnnotator(str(checkpoint)).model == checkpoint.name
    with pytest.raises(SettingError, match="max_tokens must be at least 1, got 0"):
        TransformersAnnotator(str(checkpoint), max_tokens=0)
    for file in checkpoint.iterdir():
        if file.name != "chat_template.jinja":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(SettingError, match="checkpoint must have a processor with a chat template"):
        TransformersAnnotator(str(tmp_path)).answer(MESSAGES)
