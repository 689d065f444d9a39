"""The language loss of a Qwen backbone against that of transformers, and what must not change it."""

import copy

import pytest
import torch

from vla_kit.backbones.qwen_vl import QwenVLBackbone
from vla_kit.backbones.text_cache import CachedTextBackbone
from vla_kit.backbones.timm_vit import TimmBackbone
from vla_kit.backbones.tiny import CHAT_TEMPLATE, tiny_qwen3_5, tiny_qwen3_vl
from vla_kit.errors import SettingError
from vla_kit.protocols import Conversation, Message, Observation, Picture


def image(seed=0):
    return torch.randint(256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def talk(question, reply):
    asked = Message(role="user", content=(Picture(pixels=image(), view="ego"), question))
    return Conversation(messages=(asked, Message(role="assistant", content=(reply,))))


ROBOT = Observation(prompt="pick up the cup", views={"ego": image(1)})
TALKS = [talk("what is it?", "a cup"), talk("and where?", "it lies on the table")]


@pytest.fixture(params=[tiny_qwen3_vl, tiny_qwen3_5], ids=["qwen3_vl", "qwen3_5"])
def backbone(request):
    corpus = ["pick up the cup", "it lies on the table"]
    settings = {"hidden": 32, "vision_layers": 1, "image_size": 32, "vocabulary_size": 300}
    return request.param(corpus=corpus, view_tags=["ego"], **settings).eval()


def loss_of(backbone, *samples):
    return backbone(backbone.prepare(samples, with_labels=True)).language_loss


def test_is_the_loss_of_transformers(backbone):
    inputs = backbone.prepare([ROBOT, *TALKS], with_labels=True)
    learned = inputs["labels"][inputs["labels"] != -100].tolist()
    assert backbone.tokenizer.decode(learned, skip_special_tokens=False) == (
        "a cup<|endoftext|>it lies on the table<|endoftext|>"
    )
    expected = backbone.model(**inputs).loss
    torch.testing.assert_close(backbone(inputs).language_loss, expected)


def test_there_is_none_without_labels(backbone):
    assert backbone(backbone.prepare([ROBOT, *TALKS])).language_loss is None


def test_states_are_those_without_labels(backbone):
    plain = backbone(backbone.prepare([ROBOT, *TALKS]), with_logits=True)
    labelled = backbone(backbone.prepare([ROBOT, *TALKS], with_labels=True), with_logits=True)
    assert torch.equal(plain.hidden, labelled.hidden)
    assert torch.equal(plain.logits, labelled.logits)


def test_robots_beside_it_and_padding_change_nothing(backbone):
    alone, together = loss_of(backbone, *TALKS), loss_of(backbone, ROBOT, *TALKS, ROBOT)
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)
    inputs = backbone.prepare([ROBOT, *TALKS], with_labels=True)
    mask = inputs["attention_mask"]
    assert not mask.all()
    other = inputs | {"input_ids": torch.where(mask, inputs["input_ids"], 7)}
    assert torch.equal(backbone(inputs).language_loss, backbone(other).language_loss)


def test_the_mean_is_over_tokens(backbone):
    short, long = (loss_of(backbone, one) for one in TALKS)
    counts = [len(backbone.tokenizer.encode(text).ids) + 1 for text in ("a cup", "it lies on the table")]
    expected = (short * counts[0] + long * counts[1]) / sum(counts)
    torch.testing.assert_close(loss_of(backbone, *TALKS), expected, atol=1e-5, rtol=1e-5)


def test_without_an_answer_it_is_nothing_but_reaches_the_language_head(backbone):
    context = backbone(backbone.prepare([ROBOT], with_labels=True))
    assert context.language_loss.item() == 0
    context.language_loss.backward()
    gradient = backbone.model.lm_head.weight.grad
    assert gradient is not None
    assert not gradient.any()


def test_the_head_sees_labelled_tokens_alone(backbone):
    rows = []
    backbone.model.lm_head.register_forward_hook(lambda module, inputs, output: rows.append(len(inputs[0])))
    inputs = backbone.prepare([ROBOT, *TALKS], with_labels=True)
    backbone(inputs)
    assert rows == [int((inputs["labels"] != -100).sum())]


def test_learns_an_answer(backbone):
    backbone = copy.deepcopy(backbone).train()
    optimizer = torch.optim.Adam(backbone.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        loss = loss_of(backbone, *TALKS)
        loss.backward()
        optimizer.step()
    assert loss < 0.1


def test_a_folder_brings_the_template(backbone, tmp_path):
    backbone.save_pretrained(tmp_path / "model")
    again = QwenVLBackbone.from_pretrained(tmp_path / "model", view_tags=[], image_size=32)
    assert again.inputs.chat_template == CHAT_TEMPLATE
    torch.testing.assert_close(loss_of(again, *TALKS), loss_of(backbone, *TALKS))


def test_backbones_without_a_language_head_refuse(tmp_path):
    settings = {"corpus": ["cup"], "view_tags": ["ego"], "image_size": 32, "width": 16, "vocabulary_size": 300}
    timm = TimmBackbone(model_name="test_vit", **settings)
    plain = tiny_qwen3_vl(corpus=["cup"], view_tags=[], hidden=32, vision_layers=1).requires_grad_(False).eval()
    for one in (timm, CachedTextBackbone(plain, folder=tmp_path)):
        words = Observation(prompt="cup", views={})
        with pytest.raises(SettingError, match=f"must have a language head .*, got {type(one).__name__}"):
            one.prepare([words], with_labels=True)
        with pytest.raises(SettingError, match="leave the conversations out"):
            one.prepare([TALKS[0]])
