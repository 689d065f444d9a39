import copy

import pytest
import torch

from vla_kit.backbones.tiny import tiny_qwen3_5, tiny_qwen3_vl
from vla_kit.backbones.vision_cache import cache_vision
from vla_kit.errors import SettingError
from vla_kit.protocols import Observation

FAMILIES = {"qwen3_vl": tiny_qwen3_vl, "qwen3_5": tiny_qwen3_5}
SETTINGS = {"corpus": ["push"], "view_tags": ["ego"], "image_size": 32, "hidden": 32, "vocabulary_size": 300}


def seeing(*shades):
    images = [torch.full((3, 32, 32), shade, dtype=torch.uint8) for shade in shades]
    return [Observation(prompt="push", views={"ego": image}) for image in images]


@pytest.fixture(params=FAMILIES)
def plain(request):
    return FAMILIES[request.param](**SETTINGS, vision_layers=2).eval()


@pytest.fixture
def cached(plain, tmp_path):
    backbone = cache_vision(copy.deepcopy(plain), folder=tmp_path)
    backbone.model.model.visual.requires_grad_(False)
    return backbone


def count(backbone):
    """Images that the tower itself gets, call by call."""
    counts = []
    tower = backbone.model.model.visual.tower
    tower.register_forward_pre_hook(lambda _, args, kwargs: counts.append(len(kwargs["grid_thw"])), with_kwargs=True)
    return counts


def run(backbone, observations):
    return backbone(backbone.prepare(observations)).hidden


def test_states_are_those_without_the_cache(plain, cached):
    for shades in [(10, 200), (200, 10), (10, 90, 200)]:
        torch.testing.assert_close(run(cached, seeing(*shades)), run(plain, seeing(*shades)), atol=1e-5, rtol=1e-5)


def test_the_tower_sees_an_image_once(cached, tmp_path):
    counts = count(cached)
    for shades in [(10, 200), (200, 10), (10, 10, 90)]:
        run(cached, seeing(*shades))
    assert counts == [2, 1]
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3
    again = copy.deepcopy(cached)  # another process would find the same
    first, second = run(cached, seeing(10, 90)), run(again, seeing(10, 90))
    assert counts == [2, 1]
    assert torch.equal(first, second)


def test_other_weights_or_precision_are_another_tower(cached):
    run(cached, seeing(10))
    counts = count(cached)
    state = cached.state_dict()
    name = next(name for name in state if ".visual." in name)
    cached.load_state_dict(state | {name: state[name] + 1})
    run(cached, seeing(10))
    assert counts == [1]
    cached.to(torch.bfloat16)
    assert run(cached, seeing(10)).dtype == torch.bfloat16
    assert counts == [1, 1]


def test_state_dict_is_that_of_the_tower(plain, cached, tmp_path):
    assert cached.state_dict().keys() == plain.state_dict().keys()
    torch.save(cached.state_dict(), tmp_path / "weights.pt")
    other = cache_vision(copy.deepcopy(plain), folder=tmp_path)
    with torch.no_grad():
        next(other.parameters()).zero_()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    for name, tensor in plain.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name


def test_the_rest_still_learns(cached):
    cached.train()
    run(cached, seeing(10)).square().sum().backward()
    learned = {name for name, parameter in cached.named_parameters() if parameter.grad is not None}
    assert any("language_model" in name for name in learned)
    assert not any(".visual." in name for name in learned)


def test_nests_with_lora(plain, tmp_path):
    lora = pytest.importorskip("vla_kit.backbones.lora", reason="LoRA needs peft", exc_type=ImportError)
    first = lora.add_lora(cache_vision(copy.deepcopy(plain), folder=tmp_path), rank=2)  # freezes the tower
    second = cache_vision(lora.add_lora(copy.deepcopy(plain), rank=2), folder=tmp_path)
    wanted = run(plain, seeing(10, 200))
    for backbone in (first, second):
        torch.testing.assert_close(run(backbone, seeing(10, 200)), wanted, atol=1e-5, rtol=1e-5)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2  # one tower, whoever asks


def test_refused(plain, tmp_path):
    with pytest.raises(SettingError, match=r"tower must be frozen .* Add backbone.model.model.visual to model.freeze"):
        run(cache_vision(plain, folder=tmp_path), seeing(10))
    with pytest.raises(SettingError, match="backbone must be a QwenVLBackbone, got Linear without"):
        cache_vision(torch.nn.Linear(1, 1), folder=tmp_path)
