"""The robot's state in training: from the data to prompt or head, through a checkpoint, to a policy."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from vla_kit.actions import ActionSpace, ChannelGroup, MaskedActions, QuantileNormalizer, QuantileStats
from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.data.lerobot_writer import LeRobotWriter
from vla_kit.embodiment import EmbodimentPrompter
from vla_kit.errors import CheckpointError, DataError, EmbodimentError, SettingError, StatisticsError
from vla_kit.heads import StateTokenHead
from vla_kit.policy import Policy, PolicyObservation
from vla_kit.training.demonstrations import DemonstrationDataModule
from vla_kit.training.text_to_action import TextToActionDataModule
from vla_kit.training.vla_module import VLAModule
from vla_kit.training.warm_start import load_weights

JOINTS = ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad", count=3)])
VARIANTS = ["none", "prompt", "token"]
READING = VARIANTS[1:]


@pytest.fixture
def build(parts, prompter):
    """A module of a variant; the arm has a state, the crane has none."""

    def build(variant, **changes):
        specs = [replace(prompter.spec("arm"), state_space=JOINTS), prompter.spec("crane")]
        made = parts() | {"prompter": EmbodimentPrompter(specs, state_bins=256 if variant == "prompt" else None)}
        if variant != "none":
            made["state_normalizer"] = QuantileNormalizer()
        if variant == "token":
            made["head_wrapper"] = partial(StateTokenHead, state_channels=5)
        return VLAModule(**(made | changes), head_learning_rate=1e-2, head_warmup_steps=0)

    return build


@pytest.fixture
def sets(tmp_path):
    """An arm with states from 0 to 4 in the first joint, and a crane without."""

    def write(*, state=("observation.state",), scale=1.0):
        rng = np.random.default_rng(0)
        chosen = []
        for name, size in (("arm", 2), ("crane", 3)):
            features = {
                "action": {"dtype": "float32", "shape": (size,)},
                "observation.images.cam": {"dtype": "image", "shape": (32, 32, 3)},
            }
            if name == "arm":
                features["observation.state"] = {"dtype": "float32", "shape": (3,)}
            root = tmp_path / f"{name}-{scale}"
            if not root.exists():
                with LeRobotWriter(root, rate_hz=10, features=features) as writer:
                    for _ in range(4):
                        states = scale * np.stack([np.arange(5.0), np.ones(5), rng.normal(size=5)], axis=1)
                        writer.add_episode(
                            rng.normal(size=(5, size)).astype(np.float32),
                            {"observation.images.cam": rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)},
                            instruction="push the block",
                            columns={"observation.state": states.astype(np.float32)} if name == "arm" else {},
                        )
            chosen.append(
                DemonstrationSet(
                    root=str(root),
                    embodiment=name,
                    views={"cam": "observation.images.cam"},
                    state=list(state) if name == "arm" else (),
                )
            )
        return chosen

    return write


def trainer(**settings):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return Trainer(accelerator="cpu", enable_model_summary=False, num_sanity_val_steps=0, **quiet, **settings)


def fit(module, data, **settings):
    runner = trainer(max_steps=2, val_check_interval=2, check_val_every_n_epoch=None, **settings)
    runner.fit(module, datamodule=data)
    return runner


def attach(module, data):
    runner = trainer()
    runner.strategy._lightning_module = module
    data.trainer = runner
    data.setup("fit")
    return data


def demonstrations(sets, **settings):
    return DemonstrationDataModule(sets=sets, batch_size=16, validation_share=0.25, **settings)


def trajectories(sets):
    return TextToActionDataModule(sets=sets, batch_size=16, validation_share=0.25)


@pytest.mark.parametrize("datamodule", [demonstrations, trajectories])
@pytest.mark.parametrize("variant", VARIANTS)
def test_trains_saves_reloads_validates_predicts_and_acts(variant, datamodule, build, sets, tmp_path):
    module, data = build(variant), datamodule(sets())
    path = tmp_path / "model.ckpt"
    fit(module, data).save_checkpoint(path)
    restored = build(variant)
    restored.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), restored.parameters(), strict=True))
    if variant != "none":
        assert restored.state_normalizer.fingerprints == module.state_normalizer.fingerprints
        assert restored.state_normalizer.embodiments == ("arm",)
        assert data.state_statistics()["arm"].fingerprint == _stats(sets).fingerprint
    assert set(data.state_statistics()) == (set() if variant == "none" else {"arm"})
    fresh = datamodule(sets())
    runner = trainer(limit_val_batches=1, limit_predict_batches=1)
    first = runner.validate(build(variant), datamodule=fresh, ckpt_path=path, weights_only=True, verbose=False)
    torch.manual_seed(0)
    again = trainer(limit_val_batches=1).validate(module, datamodule=datamodule(sets()), verbose=False)
    assert first[0]["val/loss"] == pytest.approx(again[0]["val/loss"])
    chunks = runner.predict(restored, datamodule=datamodule(sets()))[0]
    assert {chunk.shape[1] for chunk in chunks} <= {2, 3}
    assert all(chunk.isfinite().all() for chunk in chunks)
    arm = {"embodiment": "arm", "instruction": "push the block", "views": {}, "state": np.array([1.0, 1.0, 0.0])}
    crane = {"embodiment": "crane", "instruction": "push the block", "views": {}}
    acted = Policy.from_module(restored).act([PolicyObservation(**one) for one in (arm, crane)])
    assert [chunk.shape for chunk in acted] == [(4, 2), (4, 3)]


def _stats(sets):
    arm = sets()[0].open(with_views=False)
    return QuantileStats.from_frames(torch.cat([arm.states(index, 0, 5) for index in range(4)]))


@pytest.mark.parametrize("variant", READING)
def test_training_and_a_policy_show_the_model_the_same(variant, build, sets, monkeypatch):
    module = build(variant)
    shown, prepare = [], module.backbone.prepare
    monkeypatch.setattr(module.backbone, "prepare", lambda seen: (shown.append(seen), prepare(seen))[1])
    states, condition = [], type(module.head).condition
    monkeypatch.setattr(type(module.head), "condition", lambda self, one: (states.append(one), condition(self, one))[1])
    data = attach(module, demonstrations(sets(), num_workers=0))
    batch = next(iter(data.val_dataloader()))
    module.predict_step(batch, 0)
    reader = sets()[0].open()
    samples = [data.val_dataloader().dataset[index] for index in range(len(batch))]
    assert all(sample.state is None or len(sample.state) == 3 for sample in samples)
    seen = [
        PolicyObservation(
            embodiment=one.embodiment,
            instruction=one.instruction,
            views=one.views,
            state=None if one.embodiment == "crane" else reader.states(one.episode, one.frame, 1)[0].numpy(),
        )
        for one in samples
    ]
    Policy.from_module(module).act(seen)
    trained, acted = ([one.prompt for one in batch] for batch in (shown[0], shown[-1]))
    assert trained == acted
    assert any("state: [" in text for text in acted) == (variant == "prompt")
    assert torch.equal(states[0].state, batch.state.values[:, 0])
    assert torch.equal(states[0].state, states[-1].state)
    assert torch.equal(states[0].state_mask, states[-1].state_mask)
    assert states[0].state_mask.any(1).tolist() == [one.embodiment == "arm" for one in samples]


@pytest.mark.parametrize("variant", READING)
def test_padding_of_states_changes_no_loss_and_no_gradient(variant, build, sets):
    module = build(variant)
    module.log = module.log_dict = lambda *_, **__: None
    batch = next(iter(attach(module, demonstrations(sets())).train_dataloader()))
    assert not batch.state.mask.all()
    results = []
    for padding in (0.0, torch.nan, torch.inf):
        poisoned = MaskedActions(torch.where(batch.state.mask, batch.state.values, padding), batch.state.mask)
        module.zero_grad()
        torch.manual_seed(0)
        loss = module.training_step(replace(batch, state=poisoned), 0)
        loss.backward()
        results.append([loss.detach(), *(entry.grad for entry in module.parameters() if entry.grad is not None)])
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


def test_a_state_in_the_head_is_learned_from(build, sets):
    module = build("token")
    module.log = module.log_dict = lambda *_, **__: None
    batch = next(iter(attach(module, demonstrations(sets())).train_dataloader()))
    for parameter in module.head.head.parameters():  # a new head answers 0, whatever the context
        torch.nn.init.normal_(parameter, std=0.1)
    module.training_step(batch, 0).backward()
    assert module.head.token[0].weight.grad[:, :3].abs().sum() > 0
    assert module.head.token[0].weight.grad[:, 3:].abs().sum() == 0


@pytest.mark.parametrize("datamodule", [demonstrations, trajectories])
def test_a_model_without_states_does_not_look_at_their_columns(datamodule, build, sets):
    plain = [replace(one, state=()) for one in sets()]
    modules = {}
    for name, chosen in (("plain", plain), ("named", sets()), ("missing", sets(state=["not.there"]))):
        torch.manual_seed(0)
        modules[name] = build("none")
        fit(modules[name], datamodule(chosen), limit_val_batches=0)
    for name in ("named", "missing"):
        assert all(
            torch.equal(a, b) for a, b in zip(modules["plain"].parameters(), modules[name].parameters(), strict=True)
        )


@pytest.mark.parametrize("datamodule", [demonstrations, trajectories])
@pytest.mark.parametrize("variant", READING)
def test_a_state_that_the_data_lack_is_refused_before_training(variant, datamodule, build, sets):
    with pytest.raises(DataError, match=r"state must name the columns of the state of 'arm', which the model reads"):
        attach(build(variant), datamodule(sets(state=())))
    with pytest.raises(DataError, match=r"column must be a column of the data set, got .not\.there."):
        attach(build(variant), datamodule(sets(state=["not.there"])))


def test_other_states_than_those_of_the_checkpoint_are_refused(build, sets):
    module = build("token")
    attach(module, demonstrations(sets()))
    arm, crane = sets(scale=2.0)
    with pytest.raises(StatisticsError, match="'arm'"):
        attach(module, demonstrations([replace(arm, actions=[_first_two()]), crane]))


def _first_two():
    from vla_kit.data.action_columns import ActionColumns

    return ActionColumns("action", channels="0:2")


def test_settings_that_contradict_each_other(build):
    for variant in READING:
        with pytest.raises(SettingError, match="state_normalizer must be given where"):
            build(variant, state_normalizer=None)
    with pytest.raises(SettingError, match="state_normalizer must be left out where nothing reads states"):
        build("none", state_normalizer=QuantileNormalizer())
    stats = QuantileStats(q01=torch.zeros(3), q99=torch.ones(3))
    with pytest.raises(SettingError, match="state_normalizer must be given to a model that reads states"):
        build("none").add_state_statistics("arm", stats)
    with pytest.raises(EmbodimentError, match="'crane' must have a state_space"):
        build("token").add_state_statistics("crane", stats)


def saved(module, path):
    for name, size in (("arm", 2), ("crane", 3)):
        module.add_statistics(name, QuantileStats(q01=-torch.ones(size), q99=torch.ones(size)))
    torch.save({"state_dict": module.state_dict()}, path)
    return path


STATS = QuantileStats(q01=-torch.ones(3), q99=torch.ones(3))


def test_a_stage_goes_on_with_the_states_of_the_stage_before(build, tmp_path):
    before = build("token")
    before.add_state_statistics("arm", STATS)
    path = saved(before, tmp_path / "before.ckpt")
    module = build("token")
    load_weights(module, path)
    assert module.state_normalizer.fingerprints == before.state_normalizer.fingerprints
    other = build("token")
    other.add_state_statistics("arm", QuantileStats(q01=torch.zeros(3), q99=torch.ones(3)))
    with pytest.raises(CheckpointError, match="statistics of 'arm' must be those of the stage before"):
        load_weights(other, path)


def test_states_in_the_prompt_may_begin_where_there_were_none_but_not_the_other_way(build, tmp_path):
    path = saved(build("none"), tmp_path / "none.ckpt")
    module = build("prompt")
    module.add_state_statistics("arm", STATS)
    load_weights(module, path)
    assert module.state_normalizer.embodiments == ("arm",)
    assert set(module.normalizer.embodiments) == {"arm", "crane"}
    with pytest.raises(CheckpointError, match=r"missing: head\.head\."):
        load_weights(build("token"), path)
    with pytest.raises(CheckpointError, match=r"unknown: state_normalizer\."):
        load_weights(build("none"), saved(module, tmp_path / "prompt.ckpt"))
