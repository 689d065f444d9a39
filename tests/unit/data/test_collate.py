import pickle
from dataclasses import replace
from functools import partial

import pytest
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device

from vla_kit.actions import ActionSpace, ChannelGroup, QuantileNormalizer, QuantileStats
from vla_kit.backbones.tiny import tiny_qwen3_vl
from vla_kit.data import Batch, Collate, ColorJitter, RandomShift, Sample
from vla_kit.data.conversations.sample import ConversationSample
from vla_kit.embodiment import EmbodimentPrompter, EmbodimentSpec, StateScaler
from vla_kit.errors import DataError, SettingError, ShapeError
from vla_kit.protocols import Conversation, Message


def make_sample(embodiment="arm", *, size=3, steps=2, valid=None, views=None, fill=1.0):
    return Sample(
        embodiment=embodiment,
        instruction=f"use {embodiment}",
        views=views or {},
        actions=torch.full((steps, size), fill),
        valid=torch.ones(steps, dtype=torch.bool) if valid is None else torch.tensor(valid),
        dataset="demo",
        episode=0,
        frame=0,
    )


def prompter(embodiment, instruction):
    return f"{embodiment}|{instruction}"


def prepare(observations):
    """Stands in for a backbone: lengths of prompts, and all images in order."""
    images = [image for seen in observations for image in seen.views.values()]
    inputs = {"length": torch.tensor([len(seen.prompt) for seen in observations])}
    return {**inputs, "images": torch.stack(images)} if images else inputs


def test_mixed_embodiments_share_one_batch():
    batch = Collate(prepare, prompter=prompter, channels=4)([make_sample(), make_sample("base", size=2, steps=3)])
    assert batch.embodiments == ("arm", "base")
    assert batch.instructions == ("use arm", "use base")
    assert batch.sizes == (3, 2)
    assert batch.actions.values.shape == (2, 3, 4)
    assert batch.actions.mask.sum(dim=(1, 2)).tolist() == [6, 6]
    assert batch.backbone_inputs["length"].tolist() == [len("arm|use arm"), len("base|use base")]
    assert [tuple(native.shape) for native in batch.actions.cut(batch.sizes)] == [(2, 3), (3, 2)]


def test_steps_past_the_end_are_masked_whatever_they_hold():
    clean, poisoned = make_sample(valid=[True, False]), make_sample(valid=[True, False])
    poisoned.actions[1] = float("nan")
    collate = Collate(prepare, prompter=prompter, channels=4, horizon=5)
    first, second = collate([clean]), collate([poisoned])
    assert torch.equal(first.actions.values, second.actions.values)
    assert torch.equal(first.actions.mask, second.actions.mask)
    assert first.actions.mask.any(dim=2)[0].tolist() == [True, False, False, False, False]


def test_augment_sees_each_view_and_size_once_and_order_stays():
    def image(level, size=2):
        return torch.full((3, size, size), level, dtype=torch.uint8)

    seen = []

    def brighten(images):
        seen.append(tuple(images.shape))
        return images + 100

    samples = [
        make_sample(views={"front": image(1), "wrist": image(2)}),
        make_sample(views={"front": image(3)}),
        make_sample(views={"wrist": image(4)}),
    ]
    batch = Collate(prepare, prompter=prompter, augment=brighten)(samples)
    assert batch.backbone_inputs["images"][:, 0, 0, 0].tolist() == [101, 102, 103, 104]
    assert seen == [(2, 3, 2, 2), (2, 3, 2, 2)]
    assert int(samples[0].views["front"].max()) == 1
    other_size = [make_sample(views={"front": image(1)}), make_sample(views={"front": image(1, 4)})]
    seen.clear()
    Collate(lambda observations: {}, prompter=prompter, augment=brighten)(other_size)
    assert seen == [(1, 3, 2, 2), (1, 3, 4, 4)]


def test_augmentations_chain_with_sequential():
    chain = torch.nn.Sequential(RandomShift(1), ColorJitter())
    views = {"front": torch.zeros(3, 4, 4, dtype=torch.uint8)}
    batch = Collate(prepare, prompter=prompter, augment=chain)([make_sample(views=views)])
    assert batch.backbone_inputs["images"].shape == (1, 3, 4, 4)


def test_batch_passes_through_workers_pickle_and_lightning():
    samples = [make_sample(), make_sample("base", size=2)]
    loader = torch.utils.data.DataLoader(
        samples, batch_size=2, num_workers=1, collate_fn=Collate(prepare, prompter=prompter)
    )
    batch = pickle.loads(pickle.dumps(next(iter(loader))))
    assert isinstance(batch, Batch)
    assert len(batch) == 2
    moved = move_data_to_device(batch, torch.device("meta"))
    assert isinstance(moved, Batch)
    assert {moved.actions.values.device.type, moved.backbone_inputs["length"].device.type} == {"meta"}
    assert moved.embodiments == ("arm", "base")


def test_wrong_samples_and_augmentations():
    with pytest.raises(ShapeError, match="samples must hold at least one sample"):
        Collate(prepare, prompter=prompter)([])
    collate = Collate(prepare, prompter=prompter, augment=lambda images: images[:0])
    with pytest.raises(ShapeError, match=r"augment must return as many images as it got \(1\), got 0"):
        collate([make_sample(views={"front": torch.zeros(3, 2, 2, dtype=torch.uint8)})])


JOINTS = ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad", count=2)])
ARM, BASE = (
    EmbodimentSpec(
        name, robot_tag=name, rate_hz=10, chunk_size=4, action_space=JOINTS, arms=None, state_space=state_space
    )
    for name, state_space in (("arm", JOINTS), ("base", None))
)
STATS = QuantileStats(q01=torch.zeros(2), q99=torch.tensor([1.0, 2.0]))


def stateful(*samples, bins=256):
    """A batch of a model that reads states, and its prompts."""
    written = EmbodimentPrompter([ARM, BASE], state_bins=bins)
    states = StateScaler(QuantileNormalizer({"arm": STATS}, spaces={"arm": JOINTS}), prompter=written, channels=3)
    prompts = []
    collate = Collate(
        lambda observations: prompts.extend(seen.prompt for seen in observations) or {},
        prompter=written,
        channels=4,
        states=states,
        announce=lambda sample: int(sample.valid.sum()),
    )
    return collate(samples), prompts


def test_states_are_scaled_into_the_batch_and_into_the_prompts():
    arm = replace(make_sample(valid=[True, False]), state=torch.tensor([0.25, 2.0]))
    batch, prompts = stateful(arm, make_sample("base"))
    assert batch.state.values[:, 0].tolist() == [[-0.5, 1.0, 0.0], [0.0] * 3]
    assert batch.state.mask[:, 0].tolist() == [[True, True, False], [False] * 3]
    assert prompts[0].endswith("the next 1 control actions to execute the following task: state: [64, 255] use arm.")
    assert prompts[1].endswith("the next 2 control actions to execute the following task: use base.")
    assert "state" not in stateful(arm, bins=None)[1][0]
    moved = pickle.loads(pickle.dumps(batch)).to("meta")
    assert moved.state.values.device.type == "meta"


def test_a_sample_without_the_state_of_its_robot_is_refused():
    with pytest.raises(DataError, match="state of 'arm' must be given to a policy that reads states, got none"):
        stateful(make_sample())


def test_without_a_scaler_no_state_is_used():
    batch = Collate(prepare, prompter=prompter)([replace(make_sample(), state=torch.zeros(2))])
    assert batch.state is None
    assert batch.backbone_inputs["length"].tolist() == [len("arm|use arm")]


def test_all_frames_of_a_history_are_augmented_alike():
    generator = torch.Generator().manual_seed(0)
    still = torch.randint(0, 256, (2, 3, 12, 12), dtype=torch.uint8, generator=generator)
    histories = [still[index].expand(5, -1, -1, -1) for index in range(2)]  # nothing moves
    chain = torch.nn.Sequential(RandomShift(3), ColorJitter())
    samples = [
        make_sample(views={"front": histories[0], "wrist": still[0]}),
        make_sample(views={"front": histories[1]}),
        make_sample(views={"front": histories[0][:2]}),
    ]
    seen = []
    torch.manual_seed(1)
    Collate(lambda observations: seen.extend(observations) or {}, prompter=prompter, augment=chain)(samples)
    for one, sample in zip(seen, samples, strict=True):
        frames = one.views["front"]
        assert frames.shape == sample.views["front"].shape
        assert (frames == frames[0]).all()
        assert not torch.equal(frames[0], sample.views["front"][0])
    shifted = [RandomShift(3)(history, generator=generator) for history in histories]
    assert any(not (frames == frames[0]).all() for frames in shifted)  # each image alone would draw its own
    assert not torch.equal(seen[0].views["front"][0], seen[2].views["front"][0])  # other samples draw anew


def test_draws_without_a_history_are_those_of_a_batch_of_images():
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    torch.manual_seed(4)
    batch = Collate(prepare, prompter=prompter, augment=RandomShift(2))(
        [make_sample(views={"front": image}) for image in images]
    )
    torch.manual_seed(4)
    assert torch.equal(batch.backbone_inputs["images"], RandomShift(2)(images))


def test_the_rate_of_a_history_reaches_the_backbone():
    seen = []
    sample = replace(make_sample(views={"front": torch.zeros(2, 3, 4, 4, dtype=torch.uint8)}), frame_rate_hz=2.0)
    Collate(lambda observations: seen.extend(observations) or {}, prompter=prompter)([sample, make_sample()])
    assert [one.frame_rate_hz for one in seen] == [2.0, None]


def test_what_the_backbone_refuses_is_named():
    backbone = tiny_qwen3_vl(corpus=[], view_tags=["ego"], image_size=32, hidden=32, context_length=60)

    def talk(index, answer):
        messages = (Message(role="user", content=("?",)), Message(role="assistant", content=(answer,)))
        return ConversationSample(conversation=Conversation(messages=messages), dataset="captions", index=index)

    collate = Collate(partial(backbone.prepare, with_labels=True), prompter=prompter)
    refused = r"must make 1 to 60 tokens, got \d+ in observation 2"
    with pytest.raises(SettingError, match=refused) as caught:
        collate([talk(3, "yes"), make_sample(), talk(7, "no" * 50)])  # robots stand first
    assert caught.value.__notes__ == ["Observation 2 is record 7 of captions. Leave it out of the data, or change it."]
    long = replace(make_sample(), instruction="push " * 20, episode=4, frame=9)
    with pytest.raises(SettingError, match="in observation 0") as caught:
        collate([long, talk(3, "yes")])
    assert caught.value.__notes__[0].startswith("Observation 0 is episode 4, frame 9 of demo.")
