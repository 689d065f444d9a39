import copy

import pytest
import torch

from vla_kit.backbones.text_cache import CachedTextBackbone
from vla_kit.backbones.timm_vit import TimmBackbone
from vla_kit.backbones.tiny import tiny_qwen3_5, tiny_qwen3_vl
from vla_kit.errors import SettingError, ShapeError
from vla_kit.protocols import Backbone, Observation

SETTINGS = {"corpus": ["push the cup"], "view_tags": ["ego"], "image_size": 32, "vocabulary_size": 300}
WORDS = ("push the cup", "größe 12 \N{PILE OF POO}", "push", "lift it")


def timm():
    return TimmBackbone("resnet10t", **SETTINGS, width=32)


FAMILIES = {
    "qwen3_vl": lambda: tiny_qwen3_vl(**SETTINGS, hidden=32, vision_layers=1),
    "qwen3_5": lambda: tiny_qwen3_5(**SETTINGS, hidden=32, vision_layers=1),
    "timm": timm,
}


def saying(*words):
    return [Observation(prompt=text, views={}) for text in words]


def run(backbone, *words):
    with torch.no_grad():
        return backbone(backbone.prepare(saying(*words)))


@pytest.fixture(params=FAMILIES)
def plain(request):
    return FAMILIES[request.param]().requires_grad_(False).eval()


@pytest.fixture
def cached(plain, tmp_path):
    return CachedTextBackbone(copy.deepcopy(plain), folder=tmp_path)


def count(cached):
    """Prompts that the backbone itself gets, call by call."""
    counts = []
    prepare = cached.backbone.prepare
    cached.backbone.prepare = lambda seen: (counts.append(len(seen)), prepare(seen))[1]
    return counts


def test_is_a_backbone(cached, plain):
    assert isinstance(cached, Backbone)
    assert cached.width == plain.width == 32


def test_contexts_are_those_without_the_cache(plain, cached):
    for words in (WORDS[:2], WORDS, WORDS[::-1], WORDS[2:3], (WORDS[0],) * 3):
        ours, theirs = run(cached, *words), run(plain, *words)
        assert torch.equal(ours.mask, theirs.mask)
        assert torch.equal(ours.position_ids[:, ours.mask], theirs.position_ids[:, theirs.mask])
        torch.testing.assert_close(ours.hidden[ours.mask], theirs.hidden[theirs.mask], atol=1e-5, rtol=1e-5)
        assert (ours.hidden[~ours.mask] == 0).all()


def test_a_batch_of_new_prompts_is_the_same_to_the_bit(plain, cached):
    ours, theirs = run(cached, *WORDS), run(plain, *WORDS)
    assert torch.equal(ours.hidden[ours.mask], theirs.hidden[theirs.mask])


def test_the_backbone_reads_a_prompt_once(cached, tmp_path):
    counts = count(cached)
    first = run(cached, *WORDS[:2], WORDS[0])
    run(cached, *WORDS)
    again = run(cached, *WORDS[:2], WORDS[0])
    assert counts == [2, 2]
    assert torch.equal(first.hidden, again.hidden)  # though others were read in between
    assert len(list(tmp_path.rglob("*.safetensors"))) == 4
    other = CachedTextBackbone(copy.deepcopy(cached.backbone), folder=tmp_path)  # as another process would
    counts = count(other)
    assert torch.equal(run(other, *WORDS[:2], WORDS[0]).hidden, first.hidden)
    assert counts == []


def test_other_weights_or_precision_are_another_backbone(cached):
    run(cached, WORDS[0])
    counts = count(cached)
    state = cached.state_dict()
    name = next(name for name, entry in state.items() if "embed" in name and entry.is_floating_point())
    cached.load_state_dict(state | {name: state[name] + 1})
    run(cached, WORDS[0])
    assert counts == [1]
    cached.to(torch.bfloat16)
    assert run(cached, WORDS[0]).hidden.dtype == torch.bfloat16
    assert counts == [1, 1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        run(cached, WORDS[0])
    assert counts == [1, 1, 1]


def test_another_layer_is_another_backbone(tmp_path):
    plain = FAMILIES["qwen3_vl"]().requires_grad_(False).eval()
    last = run(CachedTextBackbone(plain, folder=tmp_path), WORDS[0]).hidden
    plain.layer = -2
    earlier = run(CachedTextBackbone(plain, folder=tmp_path), WORDS[0]).hidden
    torch.testing.assert_close(earlier, run(plain, WORDS[0]).hidden)
    assert not torch.allclose(earlier, last)


def test_state_dict_is_that_of_the_backbone(plain, cached, tmp_path):
    assert cached.state_dict().keys() == plain.state_dict().keys()
    torch.save(plain.state_dict(), tmp_path / "weights.pt")
    with torch.no_grad():
        next(cached.parameters()).zero_()
    cached.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    for name, tensor in plain.state_dict().items():
        assert torch.equal(cached.state_dict()[name], tensor), name


def test_logits_are_those_of_the_backbone(tmp_path):
    plain = FAMILIES["qwen3_vl"]().requires_grad_(False).eval()
    cached = CachedTextBackbone(plain, folder=tmp_path)
    with torch.no_grad():
        ours = cached(cached.prepare(saying(*WORDS)), with_logits=True).logits
        theirs = plain(plain.prepare(saying(*WORDS)), with_logits=True).logits
    assert torch.equal(ours, theirs)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_refused(plain, cached):
    with pytest.raises(ShapeError, match="observations must hold at least one observation"):
        cached.prepare([])
    picture = torch.zeros(3, 32, 32, dtype=torch.uint8)
    seen = [*saying("push"), Observation(prompt="push", views={"ego": picture})]
    with pytest.raises(SettingError, match=r"views must be left out .* got \['ego'\] in observation 1"):
        cached.prepare(seen)
    cached.train()
    with pytest.raises(SettingError, match="backbone must be in evaluation mode where its states are cached"):
        run(cached, "push")
    cached.eval()
    next(cached.parameters()).requires_grad_(True)
    with pytest.raises(SettingError, match=r"backbone must be frozen where its states are cached.*model\.freeze"):
        run(cached, "push")
