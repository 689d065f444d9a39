"""Samples in packed rows get what they get alone: states, losses and gradients."""

import pytest
import torch

from vla_kit.backbones.packing import fill_rows, packed_layout, packed_masks
from vla_kit.backbones.tiny import tiny_qwen3_5, tiny_qwen3_vl
from vla_kit.errors import SettingError
from vla_kit.protocols import Conversation, Message, Observation, Picture

FAMILIES = {"qwen3_vl": tiny_qwen3_vl, "qwen3_5": tiny_qwen3_5}
CLOSE = {"atol": 1e-5, "rtol": 0}


def image(seed, *shape):
    return torch.randint(256, (*shape, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def talk(*asked, said="yes"):
    messages = (Message(role="user", content=asked), Message(role="assistant", content=(said,)))
    return Conversation(messages=messages)


SAMPLES = [
    Observation(prompt="push", views={"ego": image(0), "wrist": image(1)}),
    talk("what is it?", said="a cup on the table"),
    Observation(prompt="pick up the cup and put it down again", views={}),
    talk(Picture(pixels=image(2, 3), rate_hz=2.0), Picture(pixels=image(3)), "same?"),
    Observation(prompt="pull", views={"ego": image(4), "wrist": image(5)}),
    talk(Picture(pixels=image(6)), "and this?", said="no"),
]


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def build(family, **settings):
    chosen = {"corpus": ["pick up the cup"], "view_tags": ["ego", "wrist"], "image_size": 32, "hidden": 32}
    return FAMILIES[family](**chosen, vision_layers=2, vocabulary_size=300, **settings).eval()


def test_rows_by_hand():
    assert fill_rows([3, 9, 4, 2, 5], capacity=9) == [[1], [4, 2], [0, 3]]
    assert fill_rows([40, 12, 30, 18, 20], capacity=64) == [[0, 4], [2, 3, 1]]
    assert fill_rows([12, 1], capacity=4) == [[0], [1]]
    lengths = torch.randint(1, 60, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    rows = fill_rows(lengths, capacity=256)
    assert sorted(sample for row in rows for sample in row) == list(range(200))
    fullest = max(sum(lengths[sample] for sample in row) for row in rows)
    assert fullest <= 256
    assert sum(lengths) / (len(rows) * fullest) > 0.98
    assert fill_rows([5], capacity=9) == [[0]]


def test_masks_by_hand():
    layout = packed_layout([2, 1, 4], [[2], [0, 1]])
    assert layout["within"].tolist() == [[0, 1, 2, 3], [0, 1, 0, 0]]
    assert layout["places"].tolist() == [[4, 5, 0, 0], [6, 0, 0, 0], [0, 1, 2, 3]]
    assert layout["attention_mask"].tolist() == [[True] * 2 + [False] * 2, [True] + [False] * 3, [True] * 4]
    mask, runs = packed_masks(layout, attention="sdpa", dtype=torch.float32)
    assert mask[0, 0].tolist() == torch.ones(4, 4).tril().bool().tolist()
    assert mask[1, 0].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert sorted(run.tolist() for run in runs) == [[[0, 1, 2, 3]], [[4, 5]], [[6]]]
    added, _ = packed_masks(layout, attention="eager", dtype=torch.float32)
    assert torch.equal(added == 0, mask)
    assert added.min() == torch.finfo(torch.float32).min
    with pytest.raises(SettingError, match="must be sdpa or eager where samples are packed, got 'flex_attention'"):
        packed_masks(layout, attention="flex_attention", dtype=torch.float32)


@pytest.mark.parametrize("row_tokens", [1, 90, 1000])
def test_states_losses_and_gradients_are_those_without(family, row_tokens):
    plain, packed = build(family), build(family, row_tokens=row_tokens)
    assert plain.state_dict().keys() == packed.state_dict().keys()
    contexts = [one(one.prepare(SAMPLES, with_labels=True), with_logits=True) for one in (plain, packed)]
    mask = contexts[0].mask
    assert torch.equal(mask, contexts[1].mask)
    assert torch.equal(contexts[0].position_ids[:, mask], contexts[1].position_ids[:, mask])
    for name in ("hidden", "logits"):
        torch.testing.assert_close(getattr(contexts[1], name)[mask], getattr(contexts[0], name)[mask], **CLOSE)
    torch.testing.assert_close(contexts[1].language_loss, contexts[0].language_loss, **CLOSE)
    for context in contexts:
        (context.language_loss + context.hidden[mask].square().mean()).backward()
    for one, other in zip(plain.parameters(), packed.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, atol=2e-5, rtol=1e-4)


def test_one_row_holds_all_without_padding(family):
    inputs = build(family, row_tokens=1000).prepare(SAMPLES)
    assert inputs["input_ids"].shape == (1, int(inputs["attention_mask"].sum()))


def test_a_neighbour_in_the_row_changes_nothing(family):
    packed = build(family, row_tokens=1000)
    inputs = packed.prepare(SAMPLES)
    before = packed(inputs)
    changed = [*SAMPLES]
    film = Picture(pixels=image(7, 3), rate_hz=2.0)
    changed[3] = talk(film, Picture(pixels=image(8)), "same?", said="yet")  # of the same length, and other to its end
    after = packed(packed.prepare(changed))
    others = [0, 1, 2, 4, 5]
    starts = inputs["places"][:, 0]
    assert (starts[others] > starts[3]).sum() >= 3  # which a leak would reach
    assert torch.equal(before.hidden[others][before.mask[others]], after.hidden[others][after.mask[others]])
    assert not torch.equal(before.hidden[3], after.hidden[3])


def test_eager_attention_and_forgotten_activations_are_the_same(family):
    sdpa, other = build(family, row_tokens=1000), build(family, row_tokens=1000)
    other.model.set_attn_implementation("eager")
    other.model.gradient_checkpointing_enable({"use_reentrant": False})
    other.train()
    losses = [one(one.prepare(SAMPLES, with_labels=True)).language_loss for one in (sdpa, other)]
    torch.testing.assert_close(*losses, **CLOSE)
    for loss in losses:
        loss.backward()
    for one, two in zip(sdpa.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(two.grad, one.grad, atol=2e-5, rtol=1e-4)


def test_rows_hold_at_least_a_token():
    with pytest.raises(SettingError, match="row_tokens must be at least 1, got 0"):
        build("qwen3_vl", row_tokens=0)
