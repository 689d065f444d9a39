import copy

import pytest
import torch

from vla_kit.backbones.qwen_vl import QwenVLBackbone
from vla_kit.backbones.tiny import tiny_qwen3_5, tiny_qwen3_vl
from vla_kit.errors import CheckpointError, SettingError
from vla_kit.protocols import Observation

pytest.importorskip("peft", reason="LoRA needs peft: pip install 'vla-kit[lora]'")

from vla_kit.backbones.lora import MLP_PROJECTIONS, add_lora, merge_lora

BATCH = [
    Observation(prompt="push", views={"ego": torch.full((3, 32, 32), 200, dtype=torch.uint8)}),
    Observation(prompt="push the cup", views={}),
]
FAMILIES = {"qwen3_vl": tiny_qwen3_vl, "qwen3_5": tiny_qwen3_5}
ROWS = "model.model.language_model.embed_tokens.rows"
SETTINGS = {"corpus": ["push the cup"], "view_tags": ["ego"], "image_size": 32, "hidden": 32, "vision_layers": 1}


@pytest.fixture(params=FAMILIES)
def backbone(request):
    return FAMILIES[request.param](**SETTINGS, text_layers=5, vocabulary_size=300).eval()


def trained(backbone):
    """LoRA that changes something: its second matrices begin at zero."""
    add_lora(backbone, rank=2)
    with torch.no_grad():
        for parameter in backbone.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    return backbone


def test_every_text_layer_gets_adapters_and_the_rest_is_frozen(backbone):
    add_lora(backbone, rank=2)
    learning = [name for name, parameter in backbone.named_parameters() if parameter.requires_grad]
    assert learning[0] == ROWS
    assert all(".lora_" in name for name in learning[1:])
    assert all(name.startswith("model.model.language_model.layers.") for name in learning[1:])
    kinds = getattr(backbone.model.config.text_config, "layer_types", None) or ["full_attention"] * 5
    for index, kind in enumerate(kinds):
        expected = {"in_proj_qkv", "in_proj_z", "out_proj"}
        if kind == "full_attention":
            expected = {"q_proj", "k_proj", "v_proj", "o_proj"}
        assert {name.split(".")[6] for name in learning if f".layers.{index}." in name} == expected


def test_it_begins_as_the_model_without(backbone):
    before = backbone(backbone.prepare(BATCH)).hidden
    torch.testing.assert_close(add_lora(backbone)(backbone.prepare(BATCH)).hidden, before)


def test_gradients_reach_adapters_and_nothing_else(backbone):
    trained(backbone).train()
    backbone(backbone.prepare(BATCH)).hidden.square().sum().backward()
    for name, parameter in backbone.named_parameters():
        assert (parameter.grad is not None) == (".lora_" in name or name == ROWS), name


def test_state_dict_round_trip(backbone, tmp_path):
    other = add_lora(copy.deepcopy(backbone), rank=2)
    trained(backbone)
    torch.save(backbone.state_dict(), tmp_path / "weights.pt")
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    torch.testing.assert_close(other(other.prepare(BATCH)).hidden, backbone(backbone.prepare(BATCH)).hidden)


def test_merging_keeps_outputs_and_gives_the_parameters_back(backbone):
    plain = copy.deepcopy(backbone)
    names = plain.state_dict().keys()
    wanted = trained(backbone)(backbone.prepare(BATCH)).hidden
    with pytest.raises(CheckpointError, match=r"model must have no adapters .* Call merge_lora first"):
        backbone.save_pretrained("nowhere")
    assert merge_lora(backbone).state_dict().keys() == names
    torch.testing.assert_close(backbone(backbone.prepare(BATCH)).hidden, wanted, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(plain(plain.prepare(BATCH)).hidden, wanted, atol=1e-3)


def test_other_targets(backbone):
    add_lora(backbone, rank=2, targets=MLP_PROJECTIONS)
    learning = [name for name, parameter in backbone.named_parameters() if parameter.requires_grad]
    assert len(learning) == 5 * 3 * 2 + 1
    assert all(".mlp." in name for name in learning[1:])


def test_refused_arguments():
    backbone = tiny_qwen3_5(**SETTINGS, vocabulary_size=300)
    with pytest.raises(
        SettingError, match=r"every layer, got \['q_proj'\] and none for layer 0. Choose from .*'in_proj_a'"
    ):
        add_lora(backbone, targets=["q_proj"])
    with pytest.raises(SettingError, match="rank must be at least 1, got 0"):
        add_lora(backbone, rank=0)
    with pytest.raises(SettingError, match="backbone must have LoRA, got one without"):
        merge_lora(backbone)
    with pytest.raises(SettingError, match="backbone must have no LoRA yet"):
        add_lora(add_lora(backbone))


def test_only_the_rows_of_view_tokens_move(backbone):
    plain = copy.deepcopy(backbone)
    add_lora(backbone, rank=2).train()
    ids = [backbone.tokenizer.token_to_id(f"<|ego_{end}|>") for end in ("start", "end")]
    optimizer = torch.optim.AdamW([p for p in backbone.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    for _ in range(2):
        context = backbone(backbone.prepare(BATCH), with_logits=True)
        (context.hidden.square().mean() + context.logits.square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()
    merge_lora(backbone)
    before, after = (one.model.get_input_embeddings().weight for one in (plain, backbone))
    moved = (before != after).any(dim=1).nonzero().flatten().tolist()
    assert moved == sorted(ids)
    assert backbone.model.lm_head.weight is after  # still tied
    frozen = [name for name, _ in plain.named_parameters() if "layers" not in name and "embed_tokens" not in name]
    for name in frozen:
        assert torch.equal(backbone.get_parameter(name), plain.get_parameter(name)), name


def test_learned_rows_are_those_of_the_logits_where_weights_are_tied(backbone):
    trained(backbone)
    context = backbone(backbone.prepare(BATCH), with_logits=True)
    merged = merge_lora(backbone)(backbone.prepare(BATCH), with_logits=True)
    torch.testing.assert_close(context.logits, merged.logits, atol=1e-4, rtol=1e-4)
    last = torch.nn.functional.linear(context.hidden, backbone.model.get_input_embeddings().weight)
    torch.testing.assert_close(context.logits, last, atol=1e-4, rtol=1e-4)


def test_a_head_of_its_own_stays_as_it_is(backbone):
    backbone.model.lm_head.weight = torch.nn.Parameter(torch.randn(300, 32, generator=torch.Generator().manual_seed(0)))
    before = backbone.model.lm_head.weight.clone()
    trained(backbone)
    context = backbone(backbone.prepare(BATCH), with_logits=True)
    torch.testing.assert_close(context.logits, torch.nn.functional.linear(context.hidden, before))
    assert torch.equal(merge_lora(backbone).model.lm_head.weight, before)


def test_merged_rows_are_saved_and_loaded(backbone, tmp_path):
    wanted = trained(backbone)(backbone.prepare(BATCH)).hidden
    merge_lora(backbone).save_pretrained(tmp_path)
    loaded = QwenVLBackbone.from_pretrained(tmp_path, view_tags=["ego"], image_size=32)
    torch.testing.assert_close(loaded(loaded.prepare(BATCH)).hidden, wanted, atol=1e-4, rtol=1e-4)


def test_without_view_tags_there_is_nothing_but_lora():
    backbone = add_lora(tiny_qwen3_vl(**SETTINGS | {"view_tags": []}, vocabulary_size=300), rank=2)
    assert all(".lora_" in name for name, parameter in backbone.named_parameters() if parameter.requires_grad)


def test_a_copy_learns_rows_of_its_own(backbone):
    other = copy.deepcopy(trained(backbone))
    assert other.model.lm_head.rows is other.model.get_input_embeddings().rows
    with torch.no_grad():
        other.model.lm_head.rows.zero_()
    assert backbone.model.get_input_embeddings().rows.abs().min() > 0
