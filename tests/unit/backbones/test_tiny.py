import pytest
import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser
from torch import nn

from vla_kit.backbones.qwen_vl import QwenVLBackbone
from vla_kit.backbones.tiny import tiny_qwen3_5, tiny_qwen3_vl
from vla_kit.errors import SettingError
from vla_kit.protocols import Observation

SMALL = {"corpus": ["push the puck"], "view_tags": ["ego"], "hidden": 32, "vision_layers": 2, "vocabulary_size": 320}
both = pytest.mark.parametrize("tiny", [tiny_qwen3_vl, tiny_qwen3_5])


def observe(size=32):
    image = torch.arange(3 * size * size).reshape(3, size, size).to(torch.uint8)
    return [Observation(prompt="push the puck 12 ü", views={"ego": image})]


@both
@pytest.mark.parametrize(
    ("image_size", "patch_size", "merge_size", "tokens"),
    [(96, 8, 2, 36), (96, 16, 2, 9), (96, 16, 1, 36), (32, 8, 4, 1)],
)
def test_image_tokens(tiny, image_size, patch_size, merge_size, tokens):
    backbone = tiny(image_size=image_size, patch_size=patch_size, merge_size=merge_size, **SMALL)
    inputs = backbone.prepare(observe(image_size))
    assert (inputs["input_ids"] == backbone.model.config.image_token_id).sum() == tokens
    assert backbone(inputs).hidden.isfinite().all()


@both
def test_seed_decides_and_the_global_generator_is_left_alone(tiny):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = tiny(**SMALL)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = tiny(**SMALL), tiny(seed=5, **SMALL)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    weight = "model.model.language_model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(first.state_dict()[weight], other.state_dict()[weight])


@both
def test_vocabulary_has_a_fixed_size(tiny):
    shapes = []
    for corpus in ([], ["many different words stand here " * 3]):
        state = tiny(**SMALL | {"corpus": corpus}).state_dict()
        shapes.append({name: value.shape for name, value in state.items() if name != "_extra_state"})
    assert shapes[0] == shapes[1]
    assert shapes[0]["model.lm_head.weight"] == (320, 32)


def test_layer_kinds_of_qwen3_5():
    backbone = tiny_qwen3_5(**SMALL, text_layers=6)
    linear, full = "linear_attention", "full_attention"
    assert backbone.model.config.text_config.layer_types == [linear, full, linear, linear, linear, full]


@both
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_rotary_sections_fill_the_head(tiny, heads):
    backbone = tiny(**SMALL, heads=heads)
    rotary = backbone.model.model.language_model.rotary_emb
    assert sum(rotary.mrope_section) == len(rotary.inv_freq)
    assert min(rotary.mrope_section) > 0


@both
def test_built_from_yaml(tiny):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--backbone", type=nn.Module)
    text = yaml.safe_dump({"backbone": {"class_path": f"vla_kit.backbones.tiny.{tiny.__name__}", "init_args": SMALL}})
    built = parser.instantiate(parser.parse_string(text)).backbone
    assert isinstance(built, QwenVLBackbone)
    assert built.width == 32


def test_pretrained_from_yaml(tmp_path):
    tiny_qwen3_vl(**SMALL, image_size=32).save_pretrained(tmp_path)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--backbone", type=nn.Module)
    arguments = {"source": str(tmp_path), "view_tags": ["ego", "wrist"], "image_size": 32, "history": "video"}
    path = "vla_kit.backbones.qwen_vl.QwenVLBackbone.from_pretrained"
    text = yaml.safe_dump({"backbone": {"class_path": path, "init_args": arguments}})
    built = parser.instantiate(parser.parse_string(text)).backbone
    assert built(built.prepare(observe())).hidden.shape[-1] == 32
    assert built.inputs.history == "video"
    with pytest.raises(ArgumentError, match="images"):
        parser.parse_string(text.replace("video", "clips"))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"heads": 3}, r"hidden must be heads \(3\) times .* got 32. Use 36"),
        ({"heads": 8}, r"at least 8, got 32. Use 64"),
        ({"text_layers": 0}, "text_layers must be at least 1, got 0"),
        ({"image_size": 40}, r"image_size must be a multiple .* got 40"),
        ({"vocabulary_size": 100}, "vocabulary_size must be at least 263 .* got 100"),
        ({"view_tags": ["ego", "ego"]}, "view_tags must be distinct"),
        ({"view_tags": ["Ego"]}, "tag must be lower-case"),
    ],
)
def test_refused_settings(changes, text):
    with pytest.raises(SettingError, match=text):
        tiny_qwen3_vl(**SMALL | changes)
