import copy

import pytest
import timm
import torch
import yaml
from jsonargparse import ArgumentParser
from torch import nn

from vla_kit.backbones.timm_vit import TimmBackbone
from vla_kit.errors import CheckpointError, DtypeError, SettingError, ShapeError
from vla_kit.protocols import Backbone, Observation

CORPUS = ["push the puck to the goal"]


def build(model_name="test_vit", **changes):
    settings = {"corpus": CORPUS, "view_tags": ["ego", "wrist"], "image_size": 32, "width": 16, "vocabulary_size": 300}
    return TimmBackbone(model_name, **settings | changes).eval()


def image(seed=0):
    return torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


MIXED = [
    Observation(prompt="push the puck", views={"ego": image(0), "wrist": image(1)}),
    Observation(prompt="push the puck to the goal please 12", views={}),
    Observation(prompt="", views={"wrist": image(2)}),
]


@pytest.mark.parametrize(
    ("model_name", "stage", "image_size", "tokens"),
    [
        ("test_vit", -1, 32, 4),
        ("test_vit", -2, 64, 16),
        ("test_convnext", -1, 64, 4),
        ("test_convnext", -2, 64, 16),
        ("test_byobnet", -1, 64, 4),
    ],
)
def test_any_model_of_timm(model_name, stage, image_size, tokens):
    backbone = build(model_name, stage=stage, image_size=image_size)
    context = backbone(backbone.prepare([Observation(prompt="push", views={"ego": image()})]))
    assert context.hidden.shape[1] == tokens + len(backbone._text("push", 0))
    side = int(tokens**0.5)
    grid = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")).flatten(1)
    assert torch.equal(context.position_ids[1:, 0, :tokens], grid)
    assert context.position_ids[:, 0, tokens].tolist() == [side] * 3


def test_satisfies_the_protocol():
    backbone = build()
    assert isinstance(backbone, Backbone)
    assert backbone.width == 16


@pytest.mark.parametrize("model_name", ["test_vit", "test_convnext"])
def test_image_tokens_are_those_of_timm(model_name):
    backbone = build(model_name, image_size=64)
    picture = torch.cat([image(0), image(1)], 1).repeat(1, 1, 2)
    context = backbone(backbone.prepare([Observation(prompt="push", views={"wrist": picture})]))
    plain = timm.create_model(model_name, num_classes=0, **({"img_size": 64} if "vit" in model_name else {})).eval()
    renamed = {
        name.removeprefix("model.").replace("stages_", "stages.").replace("stem_", "stem."): value
        for name, value in backbone.vision.state_dict().items()
    }
    unknown = plain.load_state_dict(renamed, strict=False).unexpected_keys
    assert not unknown
    config = plain.pretrained_cfg
    normal = (picture / 255 - torch.tensor(config["mean"])[:, None, None]) / torch.tensor(config["std"])[:, None, None]
    features = plain.forward_intermediates(normal[None], indices=[-1], intermediates_only=True)[0]
    tokens = backbone.vision_projection(backbone.vision_norm(features.flatten(2).mT))
    view = backbone.text_embedding.weight[backbone.tokenizer.token_to_id("<|wrist_start|>")]
    torch.testing.assert_close(context.hidden[:, : tokens.shape[1]], tokens + view, atol=1e-4, rtol=1e-4)


def test_channels_last_features():
    backbone = build()

    class Last(nn.Module):
        def forward(self, pixels):
            return [torch.arange(6.0).reshape(1, 2, 3, 1).expand(len(pixels), 2, 3, 64)]

    backbone.vision = Last()
    assert backbone._features(torch.zeros(1, 3, 32, 32))[0, :, :, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_sample_alone_equals_the_batch():
    backbone = build()
    together = backbone(backbone.prepare(MIXED))
    assert together.mask.sum(1).tolist() == [
        views * 4 + len(backbone._text(one.prompt, 0)) for one, views in zip(MIXED, (2, 0, 1), strict=True)
    ]
    for index, observation in enumerate(MIXED):
        alone = backbone(backbone.prepare([observation]))
        real = together.mask[index]
        assert real[: real.sum()].all()  # padding is on the right
        torch.testing.assert_close(alone.hidden[0], together.hidden[index, real], atol=1e-5, rtol=1e-5)
        assert torch.equal(alone.position_ids[:, 0], together.position_ids[:, index, real])
    assert (together.hidden[~together.mask] == 0).all()


@pytest.mark.parametrize("training", [False, True])
def test_padding_changes_nothing(training):
    backbone = build().train(training)
    inputs = backbone.prepare(MIXED)
    poisoned = dict(inputs)
    poisoned["text_ids"] = torch.where(inputs["text_mask"], inputs["text_ids"], 99)
    poisoned["source"] = torch.where(inputs["mask"], inputs["source"], inputs["source"].max())
    results = []
    for tensors in (inputs, poisoned):
        backbone.zero_grad()
        hidden = backbone(tensors).hidden
        hidden.square().sum().backward()
        results.append((hidden.detach(), backbone.vision_projection.weight.grad.clone()))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_text_alone_skips_the_vision_model():
    backbone = build()
    backbone.vision = None
    assert backbone(backbone.prepare(MIXED[1:2])).hidden.isfinite().all()


def test_every_parameter_learns():
    backbone = build("test_convnext", image_size=64, stage=-2).train()
    backbone(backbone.prepare(MIXED)).hidden.square().sum().backward()
    assert [name for name, value in backbone.named_parameters() if value.grad is None] == []


def test_state_dict_brings_vocabulary_and_tags(tmp_path):
    first, other = build(), build(corpus=["other words"], view_tags=["wrist", "ego"], seed=4)
    torch.save(first.state_dict(), tmp_path / "weights.pt")
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    torch.testing.assert_close(other(other.prepare(MIXED)).hidden, first(first.prepare(MIXED)).hidden)
    with pytest.raises(CheckpointError, match=r"as many tokens as the embedding \(261\), got 2[67]\d"):
        build(corpus=[], vocabulary_size=261).set_extra_state(first.get_extra_state())


def test_deepcopy_and_half_precision():
    backbone = build()
    clone = copy.deepcopy(backbone)
    torch.testing.assert_close(clone(clone.prepare(MIXED)).hidden, backbone(backbone.prepare(MIXED)).hidden)
    half = clone.to(torch.bfloat16)
    assert half(half.prepare(MIXED)).hidden.dtype == torch.bfloat16


def test_seed_decides_and_the_global_generator_is_left_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = build()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())


def test_built_from_yaml():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--backbone", type=nn.Module)
    arguments = {"model_name": "test_vit", "corpus": CORPUS, "view_tags": ["ego"], "image_size": 32, "width": 16}
    text = yaml.safe_dump(
        {"backbone": {"class_path": "vla_kit.backbones.timm_vit.TimmBackbone", "init_args": arguments}}
    )
    assert parser.instantiate(parser.parse_string(text)).backbone.width == 16


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model_name": "resnet_of_nobody"}, "model_name must be a model of timm, got 'resnet_of_nobody'. Near ones"),
        ({"view_tags": ["ego", "ego"]}, "view_tags must be distinct"),
        ({"width": 18}, r"width must be a multiple of heads \(4\), got 18. Use 16"),
        ({"stage": -99}, r"image_size and stage must be those that \w+ takes, got \d+ and -99: .*\. Change the one"),
        (
            {"image_size": 33},
            r"image_size and stage must be those that \w+ takes, got 33 and -1: .*33.*\. Change the one",
        ),
    ],
)
def test_refused_settings(changes, text):
    with pytest.raises(SettingError, match=text):
        build(**changes)


@pytest.mark.parametrize(
    ("observations", "error", "text"),
    [
        ([], ShapeError, "observations must hold at least one observation, got 0"),
        ([Observation(prompt="1" * 30, views={})], SettingError, "at most 15 tokens, got 30 in observation 0"),
        ([Observation(prompt="", views={"left": image()})], SettingError, r"\['ego', 'wrist'\], got 'left'"),
        ([Observation(prompt="", views={"ego": image() / 255})], DtypeError, "must be uint8"),
        ([Observation(prompt="", views={"ego": image()[:1]})], ShapeError, r"\(3, height, width\)"),
        ([Observation(prompt="", views={"ego": image().expand(4, -1, -1, -1)})], SettingError, "4 frames of 'ego'"),
    ],
)
def test_refused_observations(observations, error, text):
    with pytest.raises(error, match=text):
        build(context_length=16).prepare(observations)


def test_language_head_is_refused():
    backbone = build()
    with pytest.raises(SettingError, match="with_logits must be False for TimmBackbone"):
        backbone(backbone.prepare(MIXED), with_logits=True)
