import pytest
import torch

from vla_kit.actions import QuantileStats
from vla_kit.backbones.tiny import tiny_qwen3_vl
from vla_kit.errors import CheckpointError
from vla_kit.protocols import Observation
from vla_kit.training.vla_module import VLAModule
from vla_kit.training.warm_start import WarmStart, load_weights


def stats(size, high=1.0):
    return QuantileStats(q01=-torch.ones(size), q99=torch.full((size,), high))


@pytest.fixture
def checkpoint(parts, tmp_path):
    """A stage before, with other weights, other words and the robot arm."""
    torch.manual_seed(1)
    before = VLAModule(**parts(corpus=("words of the stage before",)))
    for entry in before.parameters():
        torch.nn.init.normal_(entry)
    before.add_statistics("arm", stats(2))
    torch.save({"state_dict": before.state_dict()}, tmp_path / "before.ckpt")
    return before, tmp_path / "before.ckpt"


def test_weights_and_words_are_those_of_the_stage_before(module, checkpoint):
    before, path = checkpoint
    WarmStart(str(path)).setup(None, module, "fit")
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), before.parameters(), strict=True))
    text = "words of the stage before"
    assert module.backbone.tokenizer.encode(text).ids == before.backbone.tokenizer.encode(text).ids
    assert module.normalizer.fingerprints == before.normalizer.fingerprints


def test_nothing_is_loaded_for_other_verbs_or_without_a_path(module, checkpoint):
    kept = [entry.clone() for entry in module.parameters()]
    WarmStart(str(checkpoint[1])).setup(None, module, "validate")
    WarmStart().setup(None, module, "fit")
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), kept, strict=True))


def test_robots_of_both_stages_are_kept(module, checkpoint):
    module.add_statistics("arm", stats(2))
    module.add_statistics("crane", stats(3))
    load_weights(module, checkpoint[1])
    assert set(module.normalizer.embodiments) == {"arm", "crane"}


def test_other_statistics_of_a_robot_are_refused_by_name(module, checkpoint):
    module.add_statistics("arm", stats(2, high=5.0))
    with pytest.raises(CheckpointError, match="'arm'"):
        load_weights(module, checkpoint[1])


def test_another_shape_is_refused_by_key_and_nothing_is_loaded(parts, checkpoint):
    module = VLAModule(**parts(width=32))
    kept = [entry.clone() for entry in module.parameters()]
    with pytest.raises(CheckpointError, match=r"of another shape: head\.\S+ \(.*\) instead of \(.*\)"):
        load_weights(module, checkpoint[1])
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), kept, strict=True))


def test_missing_and_unknown_keys_are_named(module, checkpoint, tmp_path):
    state = module.state_dict()
    state["head.extra"] = state.pop("head.action_in.0.weight")
    torch.save({"state_dict": state}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=r"1 missing: head\.action_in\.0\.weight; 1 unknown: head\.extra"):
        load_weights(module, tmp_path / "other.ckpt")


@pytest.mark.parametrize("content", [None, {"weights": 1}, "text"])
def test_a_file_that_is_no_checkpoint_is_refused(module, tmp_path, content):
    path = tmp_path / "wrong.ckpt"
    if content == "text":
        path.write_text("nothing")
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match="checkpoint must"):
        load_weights(module, path)


@pytest.fixture
def lora():
    return pytest.importorskip("vla_kit.backbones.lora", reason="LoRA needs peft", exc_type=ImportError)


def adapted(lora, parts, **settings):
    """A module whose backbone has LoRA."""
    made = parts()
    lora.add_lora(made["backbone"], rank=2, **settings)
    return VLAModule(**made)


def states(module):
    views = {"cam": torch.full((3, 32, 32), 90, dtype=torch.uint8)}
    observations = [Observation(prompt="push", views=views)]
    return module.backbone(module.prepare(observations), with_logits=True)


def test_a_run_with_lora_begins_as_the_plain_run_ended(parts, checkpoint, lora):
    before, path = checkpoint
    module = adapted(lora, parts)
    load_weights(module, path)
    before.eval(), module.eval()
    torch.testing.assert_close(states(module).hidden, states(before).hidden)
    torch.testing.assert_close(states(module).logits, states(before).logits)
    ids = [before.backbone.tokenizer.token_to_id(f"<|cam_{end}|>") for end in ("start", "end")]
    rows = module.backbone.model.get_input_embeddings().rows
    assert torch.equal(rows, before.backbone.model.get_input_embeddings().weight[ids])
    assert all(torch.equal(a, b) for a, b in zip(module.head.parameters(), before.head.parameters(), strict=True))
    text = "words of the stage before"
    assert module.backbone.tokenizer.encode(text).ids == before.backbone.tokenizer.encode(text).ids


def test_lora_goes_on_with_its_adapters(parts, tmp_path, lora):
    before = adapted(lora, parts)
    for entry in before.parameters():
        torch.nn.init.normal_(entry, std=0.1)
    torch.save({"state_dict": before.state_dict()}, tmp_path / "lora.ckpt")
    module = adapted(lora, parts)
    load_weights(module, tmp_path / "lora.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), before.parameters(), strict=True))
    wider = adapted(lora, parts, targets=(*lora.ATTENTION_PROJECTIONS, *lora.MLP_PROJECTIONS))
    load_weights(wider, tmp_path / "lora.ckpt")  # projections without an adapter there begin with a new one
    before.eval(), wider.eval()
    torch.testing.assert_close(states(wider).hidden, states(before).hidden)


def test_lora_into_a_plain_model_names_the_remedy_and_the_remedy_works(parts, module, tmp_path, lora):
    before = adapted(lora, parts)
    for entry in before.parameters():
        torch.nn.init.normal_(entry, std=0.1)
    torch.save({"state_dict": before.state_dict()}, tmp_path / "lora.ckpt")
    kept = [entry.clone() for entry in module.parameters()]
    with pytest.raises(CheckpointError, match=r"with 6 more: backbone\.model\.lm_head, .*q_proj.*merge_lora\(module"):
        load_weights(module, tmp_path / "lora.ckpt")
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), kept, strict=True))
    before.eval(), module.eval()
    wanted = states(before)
    lora.merge_lora(before.backbone)
    torch.save({"state_dict": before.state_dict()}, tmp_path / "merged.ckpt")
    load_weights(module, tmp_path / "merged.ckpt")
    torch.testing.assert_close(states(module).hidden, wanted.hidden, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(states(module).logits, wanted.logits, atol=1e-5, rtol=1e-4)


def test_keys_and_shapes_are_named_with_adapters_too(parts, checkpoint, tmp_path, lora):
    state = checkpoint[0].state_dict()
    name = "backbone.model.model.language_model.layers.0.self_attn.q_proj"
    del state[f"{name}.weight"]
    state["backbone.extra"] = torch.zeros(1)
    torch.save({"state_dict": state}, tmp_path / "broken.ckpt")
    with pytest.raises(CheckpointError, match=rf"1 missing: {name}\.base_layer\.weight; 1 unknown: backbone\.extra"):
        load_weights(adapted(lora, parts), tmp_path / "broken.ckpt")
    made = parts()
    made["backbone"] = tiny_qwen3_vl(
        corpus=["push"],
        view_tags=["cam"],
        image_size=32,
        hidden=32,
        vision_layers=1,
        text_layers=1,
        vocabulary_size=400,
    )
    lora.add_lora(made["backbone"])
    with pytest.raises(CheckpointError, match=r"2 of another shape: .*embed_tokens\.base_layer\.weight \(512, 32\)"):
        load_weights(VLAModule(**made), checkpoint[1])
