import copy
import warnings

import pytest
import torch
from transformers import (
    AutoModelForImageTextToText,
    PreTrainedTokenizerFast,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen3_5ForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
)
from transformers.utils import is_flash_attn_2_available

from tiny_qwen2_5 import tiny_qwen2_5_vl
from vla_kit.backbones.qwen_vl import QwenVLBackbone, add_view_tokens
from vla_kit.backbones.tiny import tiny_qwen3_5, tiny_qwen3_vl
from vla_kit.errors import CheckpointError, SettingError
from vla_kit.protocols import Backbone, Observation

CORPUS = ["pick up the red cup", "push the puck to the goal"]


FAMILIES = {"qwen2_5_vl": tiny_qwen2_5_vl, "qwen3_vl": tiny_qwen3_vl, "qwen3_5": tiny_qwen3_5}
CLASSES = {
    "qwen2_5_vl": Qwen2_5_VLForConditionalGeneration,
    "qwen3_vl": Qwen3VLForConditionalGeneration,
    "qwen3_5": Qwen3_5ForConditionalGeneration,
}


def image(seed=0, size=32):
    return torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


MIXED = [
    Observation(prompt="pick up the cup", views={"ego": image(0), "wrist": image(1)}),
    Observation(prompt="push the puck to the goal please", views={}),
    Observation(prompt="push", views={"wrist": image(2)}),
]


def build(family, **changes):
    settings = {"corpus": CORPUS, "view_tags": ["ego", "wrist"], "image_size": 32, "hidden": 32} | changes
    return FAMILIES[family](**{"vision_layers": 2, "vocabulary_size": 320, **settings}).eval()


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def backbone(family):
    return build(family)


@pytest.fixture(scope="module")
def checkpoint(family, tmp_path_factory):
    """A checkpoint as transformers writes it, without view tokens, as on the hub."""
    folder = tmp_path_factory.mktemp(family)
    plain = build(family, view_tags=[])
    plain.model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=plain.tokenizer).save_pretrained(folder)
    vision = plain.model.config.vision_config
    Qwen2VLImageProcessor(
        patch_size=vision.patch_size, merge_size=vision.spatial_merge_size, image_mean=[0.5] * 3, image_std=[0.25] * 3
    ).save_pretrained(folder)
    return folder


def test_satisfies_the_protocol(backbone):
    assert isinstance(backbone, Backbone)
    assert backbone.width == 32


def test_hidden_states_and_positions_are_those_of_transformers(family, checkpoint):
    backbone = QwenVLBackbone.from_pretrained(checkpoint, view_tags=["ego", "wrist"], image_size=32)
    assert type(backbone.model) is CLASSES[family]
    inputs = backbone.prepare(MIXED)
    context = backbone(inputs, with_logits=True)

    # the same call by hand: transformers computes its own positions, and every state is asked for
    model = backbone.model
    types = (inputs["input_ids"] == model.config.image_token_id).int()
    plain = {name: tensor for name, tensor in inputs.items() if name != "position_ids"}
    plain["attention_mask"] = plain["attention_mask"].long()
    output = model(**plain, mm_token_type_ids=types, output_hidden_states=True)
    mask = inputs["attention_mask"]
    positions, _ = model.model.get_rope_index(
        inputs["input_ids"], types, inputs["image_grid_thw"], attention_mask=plain["attention_mask"]
    )
    assert torch.equal(context.position_ids[:, mask], positions[:, mask])
    torch.testing.assert_close(context.hidden[mask], output.hidden_states[-1][mask])
    torch.testing.assert_close(context.logits[mask], output.logits[mask])
    assert torch.equal(context.mask, mask)


def test_new_view_tokens_follow_the_vocabulary_and_start_at_the_mean(checkpoint):
    before = AutoModelForImageTextToText.from_pretrained(checkpoint)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(checkpoint)
    known = len(tokenizer)
    backbone = QwenVLBackbone.from_pretrained(checkpoint, view_tags=["ego"])
    assert [backbone.tokenizer.token_to_id(f"<|ego_{end}|>") for end in ("start", "end")] == [known, known + 1]
    rows = before.get_input_embeddings().weight
    after = backbone.model.get_input_embeddings().weight
    assert len(after) == len(rows)  # spare rows were used
    torch.testing.assert_close(after[:known], rows[:known])
    torch.testing.assert_close(after[known : known + 2], rows[:known].mean(0).expand(2, -1))


def test_embedding_grows_only_when_it_must(family):
    backbone = build(family, vocabulary_size=268, view_tags=["ego", "wrist"])  # 9 special, 256 bytes, 3 merges
    rows = backbone.model.get_input_embeddings().weight.clone()
    assert backbone.tokenizer.get_vocab_size() == len(rows) == 268
    tokenizer = backbone.tokenizer
    add_view_tokens(backbone.model, tokenizer, ["left", "ego"])
    grown = backbone.model.get_input_embeddings().weight
    assert len(grown) == 270
    torch.testing.assert_close(grown[268:], rows.mean(0).expand(2, -1))
    assert backbone.model.lm_head.out_features == 270
    assert backbone.model.lm_head.weight is grown  # still tied


def test_save_and_load_keeps_everything(checkpoint, tmp_path):
    first = QwenVLBackbone.from_pretrained(checkpoint, view_tags=["ego", "wrist"], image_size=32)
    first.save_pretrained(tmp_path)
    second = QwenVLBackbone.from_pretrained(tmp_path, view_tags=["ego"], image_size=32)
    assert second.tokenizer.get_vocab() == first.tokenizer.get_vocab()
    torch.testing.assert_close(second(second.prepare(MIXED)).hidden, first(first.prepare(MIXED)).hidden)
    assert list(second.inputs.image_processor.image_std) == [0.25] * 3  # that of the checkpoint


def test_from_config_takes_a_state_dict(checkpoint):
    first = QwenVLBackbone.from_pretrained(checkpoint, view_tags=["ego", "wrist"], image_size=32)
    second = QwenVLBackbone.from_config(checkpoint, view_tags=["ego", "wrist"], image_size=32).eval()
    second.load_state_dict(first.state_dict())
    torch.testing.assert_close(second(second.prepare(MIXED)).hidden, first(first.prepare(MIXED)).hidden)


def test_a_sample_alone_equals_the_batch(backbone):
    together = backbone(backbone.prepare(MIXED))
    for index, observation in enumerate(MIXED):
        alone = backbone(backbone.prepare([observation]))
        real = together.mask[index]
        assert alone.mask.all()
        torch.testing.assert_close(alone.hidden[0], together.hidden[index, real], atol=1e-5, rtol=1e-5)
        assert torch.equal(alone.position_ids[:, 0], together.position_ids[:, index, real])


def test_padding_changes_nothing(backbone):
    inputs = backbone.prepare(MIXED)
    clean = backbone(inputs)
    mask = inputs["attention_mask"]
    poisoned = dict(inputs)
    poisoned["input_ids"] = torch.where(mask, inputs["input_ids"], 77)
    poisoned["position_ids"] = torch.where(mask, inputs["position_ids"], 999)
    assert torch.equal(backbone(poisoned).hidden[mask], clean.hidden[mask])


def test_text_alone_skips_the_vision_tower(backbone):
    called = []
    handle = backbone.model.model.visual.register_forward_hook(lambda *_: called.append(1))
    inputs = backbone.prepare(MIXED[1:2])
    assert "pixel_values" not in inputs
    hidden = backbone(inputs).hidden
    assert not called
    backbone(backbone.prepare(MIXED))
    assert called
    handle.remove()
    reference = backbone.model(input_ids=inputs["input_ids"], output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(hidden, reference)


def test_earlier_layer(backbone):
    inputs = backbone.prepare(MIXED[1:2])
    states = backbone.model(input_ids=inputs["input_ids"], output_hidden_states=True)
    for layer in (-2, -3):
        other = QwenVLBackbone(backbone.model, tokenizer=backbone.tokenizer, image_size=32, layer=layer)
        context = other(inputs, with_logits=True)
        torch.testing.assert_close(context.hidden, states.hidden_states[layer])
        torch.testing.assert_close(context.logits, states.logits)


def test_views_reach_the_states_and_gradients_the_vision_tower(family):
    backbone = build(family)
    black = [Observation(prompt="push", views={"ego": torch.zeros_like(image())})]
    bright = [Observation(prompt="push", views={"ego": image()})]
    first, second = backbone(backbone.prepare(black)).hidden, backbone(backbone.prepare(bright)).hidden
    assert not torch.allclose(first[:, -1], second[:, -1])
    second.square().sum().backward()
    missing = [name for name, parameter in backbone.named_parameters() if parameter.grad is None]
    assert missing == []


def test_state_dict_brings_the_vocabulary(family, tmp_path):
    first = build(family)
    other = build(family, corpus=["entirely different words"], seed=3)
    assert other.tokenizer.get_vocab() != first.tokenizer.get_vocab()
    torch.save(first.state_dict(), tmp_path / "weights.pt")
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert other.tokenizer.to_str() == first.tokenizer.to_str()
    torch.testing.assert_close(other(other.prepare(MIXED)).hidden, first(first.prepare(MIXED)).hidden)


def test_state_dict_brings_the_view_tags(family):
    first = build(family)
    other = build(family, view_tags=["left"])
    other.load_state_dict(first.state_dict())
    other.prepare(MIXED)
    with pytest.raises(SettingError, match=r"\['ego', 'wrist'\], got 'left'"):
        other.prepare([Observation(prompt="push", views={"left": image()})])


def test_a_larger_vocabulary_is_refused(family):
    state = build(family, vocabulary_size=320, corpus=[str(index) * 3 + " abc" for index in range(9)]).get_extra_state()
    assert state.dtype == torch.uint8
    small = build(family, vocabulary_size=266)
    with pytest.raises(CheckpointError, match=r"as many tokens as the model has embeddings \(266\), got \d+"):
        small.set_extra_state(state)
    with pytest.raises(CheckpointError, match="must be the JSON of a tokenizer, got 3 bytes"):
        small.set_extra_state(torch.zeros(3, dtype=torch.uint8))


def test_deepcopy_is_independent(backbone):
    clone = copy.deepcopy(backbone)
    torch.testing.assert_close(clone(clone.prepare(MIXED)).hidden, backbone(backbone.prepare(MIXED)).hidden)
    assert clone.inputs.tokenizer is not backbone.inputs.tokenizer


def test_half_precision_keeps_rotary_frequencies(family):
    backbone = build(family)
    names = [name for name, _ in backbone.named_buffers() if name.endswith("inv_freq")]
    before = {name: backbone.get_buffer(name).clone() for name in names}
    half = copy.deepcopy(backbone).to(torch.bfloat16)
    assert names
    for name in names:
        assert torch.equal(half.get_buffer(name), before[name])
    full, low = backbone(backbone.prepare(MIXED)), half(half.prepare(MIXED))
    assert low.hidden.dtype == torch.bfloat16
    difference = low.hidden.float()[low.mask] - full.hidden[full.mask]
    assert difference.norm() < 0.05 * full.hidden[full.mask].norm()
    half.float()
    assert half.model.dtype == torch.float32


def test_meta_device_can_be_filled(family):
    with torch.device("meta"):
        hollow = copy.deepcopy(build(family)).to("meta")
    hollow.to_empty(device="cpu")
    assert hollow.model.device.type == "cpu"


def test_from_pretrained_in_bfloat16(checkpoint):
    backbone = QwenVLBackbone.from_pretrained(checkpoint, view_tags=["ego", "wrist"], image_size=32, dtype="bfloat16")
    assert backbone.model.dtype == torch.bfloat16
    assert backbone(backbone.prepare(MIXED)).hidden.isfinite().all()


def test_refused_arguments(backbone, tmp_path):
    settings = {"tokenizer": backbone.tokenizer, "image_size": 32}
    with pytest.raises(SettingError, match=r"layer must lie in \[-3, -1\], got 0"):
        QwenVLBackbone(backbone.model, layer=0, **settings)
    with pytest.raises(SettingError, match="image_size must be a multiple"):
        QwenVLBackbone(backbone.model, **settings | {"image_size": 20})
    with pytest.raises(CheckpointError, match=r"source must be a folder or a hub id, got '.*nothing'"):
        QwenVLBackbone.from_pretrained(tmp_path / "nothing", view_tags=[])


def test_normalisation_is_that_of_the_family():
    first, second = build("qwen2_5_vl"), build("qwen3_vl")
    assert list(first.inputs.image_processor.image_mean) == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    assert list(second.inputs.image_processor.image_mean) == [0.5] * 3


def test_gradient_checkpointing_changes_no_gradient(backbone):
    first, second = copy.deepcopy(backbone).train(), copy.deepcopy(backbone).train()
    second = QwenVLBackbone(
        second.model, tokenizer=second.tokenizer, image_size=32, gradient_checkpointing=True
    ).train()
    layer = first.model.get_decoder().layers[0], second.model.get_decoder().layers[0]
    calls = [0, 0]
    for index, module in enumerate(layer):
        module.input_layernorm.register_forward_hook(lambda *_, index=index: calls.__setitem__(index, calls[index] + 1))
    for one in (first, second):
        one(one.prepare(MIXED)).hidden.square().mean().backward()
    assert calls == [1, 2]  # computed again on the way back
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_attention_is_the_users_choice(checkpoint):
    settings = {"view_tags": ["ego", "wrist"], "image_size": 32}
    first = QwenVLBackbone.from_pretrained(checkpoint, attention="eager", **settings)
    second = QwenVLBackbone.from_pretrained(checkpoint, **settings)
    assert first.model.config._attn_implementation == "eager"
    assert second.model.config._attn_implementation == "sdpa"
    mask = first(first.prepare(MIXED)).mask
    torch.testing.assert_close(
        first(first.prepare(MIXED)).hidden[mask], second(second.prepare(MIXED)).hidden[mask], atol=1e-4, rtol=1e-4
    )
    with pytest.raises(SettingError, match=r"attention must be an implementation .* got 'quick'"):
        QwenVLBackbone.from_pretrained(checkpoint, attention="quick", **settings)
    if not is_flash_attn_2_available():
        with pytest.raises(SettingError, match=r"attention must be .* got 'flash_attention_2'.*Use 'sdpa' or 'eager'"):
            QwenVLBackbone.from_config(checkpoint, attention="flash_attention_2", **settings)


def test_no_warnings_in_a_training_step(family):
    backbone = build(family).train()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backbone(backbone.prepare(MIXED)).hidden.mean().backward()
