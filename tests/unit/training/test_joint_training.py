"""One step over robots and conversations: what runs, how often, and what it costs each sample."""

from types import SimpleNamespace

import pytest
import torch

from vla_kit.actions import QuantileStats
from vla_kit.data import Collate, Sample
from vla_kit.data.conversations import ConversationSample
from vla_kit.flow import interpolate, target_velocity
from vla_kit.heads import StateTokenHead
from vla_kit.losses import masked_mse
from vla_kit.protocols import Conversation, Message, Picture
from vla_kit.training.vla_module import VLAModule


def fixed_noise(field, actions, context, *, generator=None):
    """The flow loss of one draw, the same for every sample, so that samples can be compared across batches."""
    noise = torch.where(actions.mask, 0.3, 0.0)
    clean = torch.where(actions.mask, actions.values, 0)
    time = torch.full((len(clean),), 0.5)
    velocity = field(interpolate(clean, noise, time), time, context, actions.mask)
    return masked_mse(velocity, target_velocity(clean, noise), actions.mask)


def robot(name, size, seed):
    generator = torch.Generator().manual_seed(seed)
    return Sample(
        embodiment=name,
        instruction="push the block",
        views={"cam": torch.randint(256, (3, 32, 32), dtype=torch.uint8, generator=generator)},
        actions=torch.rand(4, size, generator=generator),
        valid=torch.tensor([True, True, True, False]),
        dataset=name,
        episode=0,
        frame=seed,
    )


def talk(*asked, said=("a red block on the table",)):
    messages = [Message(role="user", content=asked), *(Message(role="assistant", content=(text,)) for text in said)]
    return ConversationSample(conversation=Conversation(messages=tuple(messages)), dataset="talk", index=0)


ROBOTS = [robot("arm", 2, 0), robot("crane", 3, 1)]
LONG = talk("look closely at the table in the middle of this room and say what lies there " * 3)
SEEN = talk(Picture(pixels=ROBOTS[0].views["cam"]), "what is it?", said=("noise",))
SILENT = talk("hello", said=())


@pytest.fixture
def build(parts):
    def make(**changes):
        module = VLAModule(**{**parts(), **changes})
        for name, size in (("arm", 2), ("crane", 3)):
            stats = QuantileStats(q01=torch.zeros(size), q99=torch.ones(size))
            module.normalizer.add(name, stats, module.action_spaces[name])
        torch.manual_seed(0)
        for entry in module.head.parameters():
            torch.nn.init.normal_(entry, std=0.3)
        module.flow_loss = fixed_noise
        module.log = module.log_dict = lambda *args, **settings: None
        return module

    return make


def batch_of(module, *samples):
    def prepare(some):
        return module.prepare(some, with_labels=True)

    return Collate(prepare, prompter=module.prompter, channels=module.channels)(samples)


def watched(module):
    """How many samples and tokens backbone and head see, call by call."""
    seen = {"backbone": [], "head": []}
    module.backbone.register_forward_hook(lambda _, inputs, output: seen["backbone"].append(tuple(output.mask.shape)))
    module.head.register_forward_pre_hook(lambda _, inputs: seen["head"].append(tuple(inputs[2].mask.shape)))
    return seen


def test_robots_stand_first_and_one_pass_reads_all(build):
    module = build()
    seen = watched(module)
    batch = batch_of(module, LONG, ROBOTS[0], SEEN, ROBOTS[1])
    assert (batch.embodiments, batch.conversations, len(batch)) == (("arm", "crane"), 2, 4)
    assert batch.datasets == ("arm", "crane", "talk", "talk")
    module.training_step(batch, 0)
    robots = int(batch.backbone_inputs["attention_mask"][:2].sum(1).max())
    [read] = seen["backbone"]
    assert read[0] == 4
    assert seen["head"] == [(2, robots)]  # the head does not pay for the length of the conversation
    assert robots < read[1]


def test_every_sample_costs_what_it_costs_alone(build):
    module = build()
    per_sample, language = module._losses(batch_of(module, LONG, ROBOTS[0], SEEN, ROBOTS[1]))
    alone = [module._losses(batch_of(module, one))[0] for one in ROBOTS]
    torch.testing.assert_close(per_sample, torch.cat(alone), atol=1e-5, rtol=1e-5)
    _, spoken = module._losses(batch_of(module, LONG, SEEN))
    torch.testing.assert_close(language, spoken, atol=1e-5, rtol=1e-5)
    total = module.training_step(batch_of(module, LONG, ROBOTS[0], SEEN, ROBOTS[1]), 0)
    torch.testing.assert_close(total, per_sample.mean() + 0.1 * language)


def test_robots_alone_cost_what_they_cost_without_labels(build):
    module = build()
    labelled = batch_of(module, *ROBOTS)
    plain = Collate(module.prepare, prompter=module.prompter, channels=module.channels)(ROBOTS)
    assert "labels" not in plain.backbone_inputs
    expected = module.training_step(plain, 0)
    assert torch.equal(module.training_step(labelled, 0), expected)
    assert module.parts["language"] == 0


def test_conversations_alone_leave_the_head_alone(build):
    module = build()
    seen = watched(module)
    total = module.training_step(batch_of(module, LONG, SEEN), 0)
    total.backward()
    assert seen["head"] == []
    assert all(entry.grad is None for entry in module.head.parameters())
    assert total == 0.1 * module._losses(batch_of(module, LONG, SEEN))[1]


def test_a_batch_without_an_answer_is_safe(build):
    module = build()
    total = module.training_step(batch_of(module, SILENT), 0)
    total.backward()
    assert total == 0
    gradients = [entry.grad for entry in module.backbone.parameters() if entry.grad is not None]
    assert gradients
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("with_state", [False, True])
def test_among_processes_the_head_looks_at_nothing_and_learns_nothing(build, with_state):
    module = build()
    if with_state:
        module.head = StateTokenHead(module.head, state_channels=3)
    module._trainer = SimpleNamespace(world_size=2, training=True)
    expected = module._losses(batch_of(module, LONG, SEEN))[1]
    seen = watched(module)
    total = module.training_step(batch_of(module, LONG, SEEN), 0)
    total.backward()
    assert len(seen["head"]) == 1
    torch.testing.assert_close(total, 0.1 * expected)
    gradients = [entry.grad for entry in module.head.parameters() if entry.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() and not gradient.any() for gradient in gradients)


def test_packed_rows_give_the_same_losses(build, parts):
    module = build()
    packed = build()
    packed.backbone.inputs.row_tokens = 256
    samples = (LONG, ROBOTS[0], SEEN, ROBOTS[1])
    for one, other in zip(
        module._losses(batch_of(module, *samples)), packed._losses(batch_of(packed, *samples)), strict=True
    ):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-5)


def test_padding_of_conversations_is_never_read(build):
    module = build()
    batch = batch_of(module, *ROBOTS, LONG, SEEN)
    mask = batch.backbone_inputs["attention_mask"]
    before = module._losses(batch)
    batch.backbone_inputs["input_ids"][~mask] = 7
    batch.actions.values[~batch.actions.mask] = float("nan")
    after = module._losses(batch)
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
