import queue
import threading
import warnings
from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from rl_parts import Corridor, Push, model_parts, rl_module, sft_module

from vla_kit.envs.places import InProcesses, InThisProcess, OnServers
from vla_kit.envs.remote import serve_envs
from vla_kit.errors import CheckpointError, MissingStatisticsError, NonFiniteError, SettingError
from vla_kit.flow import LearnedNoiseEuler
from vla_kit.heads import NoiseHead
from vla_kit.training.rollouts import RolloutDataModule
from vla_kit.training.warm_start import WarmStart

pytestmark = [
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
    pytest.mark.filterwarnings("ignore:Found .* in eval mode"),
]


def toys(env=Push, **settings):
    given = {"episodes": 16, "environments": 4, "place": InThisProcess()} | settings
    data = RolloutDataModule(["metaworld/reach"], **given)
    data.make_envs = {"toy": partial(env)}
    return data


def fit(module, data, folder=None, *, rollouts=1, ckpt=None, callbacks=(), **trainer):
    fitted = Trainer(
        accelerator="cpu",
        max_epochs=rollouts,
        logger=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
        **trainer,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted.fit(module, datamodule=data, ckpt_path=ckpt, weights_only=True)
    return fitted


class Watch(Callback):
    """What was logged after each rollout, and its batch."""

    def __init__(self):
        self.logged, self.batches = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.logged.append({name: float(value) for name, value in trainer.callback_metrics.items()})
        self.batches.append(batch)


def test_practice_solves_what_the_start_solves_rarely():
    watch = Watch()
    fit(rl_module(), toys(episodes=64), rollouts=8, callbacks=[watch])
    success = [logged["rollout/success"] for logged in watch.logged]
    assert success[0] < 0.3
    assert success[-1] > 0.7


def test_a_policy_that_has_not_moved_has_ratios_of_one():
    watch = Watch()
    fit(rl_module(head_learning_rate=0.0), toys(episodes=32), rollouts=1, callbacks=[watch])
    (logged,) = watch.logged
    assert logged["ppo/approximate_kl"] == pytest.approx(0.0, abs=1e-6)
    assert logged["ppo/ratio_largest"] == pytest.approx(1.0, abs=1e-3)
    assert logged["ppo/clip_fraction"] == 0.0
    assert logged["ppo/updates"] == 4 * 2  # epochs of 32 decisions in minibatches of 16


def test_what_learns_is_a_setting():
    before = rl_module()
    frozen, whole = rl_module(), rl_module(freeze=(), backbone_learning_rate=1e-3)
    fit(frozen, toys(Corridor), rollouts=1)
    fit(whole, toys(Corridor), rollouts=1)
    for module, moves in ((frozen, {"head", "value_head"}), (whole, {"backbone", "head", "value_head"})):
        found = {
            name.partition(".")[0]
            for (name, now), then in zip(module.named_parameters(), before.parameters(), strict=True)
            if not torch.equal(now, then)
        }
        assert found == moves


def test_a_context_that_is_kept_equals_one_that_is_asked_again():
    watch, module = Watch(), rl_module()
    fit(module, toys(Corridor, episodes=64), rollouts=1, callbacks=[watch])
    (batch,) = watch.batches
    ended_within = (batch.mask & ~batch.carried).any((1, 2)).nonzero()[0]
    rows = torch.cat([ended_within, torch.tensor([0, 3])])
    with torch.no_grad():
        (kept, _, context), (asked, _, again) = (
            module._laws(one, rows) for one in (batch, replace(batch, contexts=[]))
        )
    torch.testing.assert_close(kept.mean, asked.mean)
    torch.testing.assert_close(module.value_head(context), module.value_head(again))
    assert torch.equal(kept.mask, batch.carried[rows])


def test_running_out_of_time_is_worth_what_the_value_head_says_or_nothing():
    watch = Watch()
    module = rl_module(advantages="gae", discount=0.5, trace=1.0)
    torch.nn.init.constant_(module.value_head.readout.bias, 0.25)
    fit(module, toys(Corridor, episodes=8), rollouts=1, callbacks=[watch])
    (batch,) = watch.batches
    assert batch.truncated.any()
    _, returns = module._advantages(batch)
    assert returns[batch.truncated].tolist() == pytest.approx([0.5 * 0.25] * int(batch.truncated.sum()))
    assert returns[batch.terminated].tolist() == pytest.approx([1.0] * int(batch.terminated.sum()))
    module.bootstrap_at_timeout = False
    _, returns = module._advantages(batch)
    assert returns[batch.truncated].tolist() == pytest.approx([0.0] * int(batch.truncated.sum()))


def test_groups_compare_tries_at_the_same_scene():
    watch = Watch()
    module = rl_module(advantages="group")
    fit(module, toys(episodes=32, tries=8), rollouts=1, callbacks=[watch])
    (batch,) = watch.batches
    scenes = {}
    for episode in batch.episodes:
        scenes.setdefault(episode.planned.seed, []).append(float(episode.success))
    assert list(map(len, scenes.values())) == [8] * 4
    gains, _ = module._advantages(batch)
    expected = []
    for episode in batch.episodes:
        tries = torch.tensor(scenes[episode.planned.seed])
        spread = tries.std(correction=0)
        gain = (episode.success - tries.mean()) / spread if spread > 0 else torch.tensor(0.0)
        expected += [float(gain)] * len(episode.chunks)
    assert gains.tolist() == pytest.approx(expected, abs=1e-5)


def test_temperature_cools_the_first_noise():
    watch = Watch()
    for temperature in (0.0, 1.0):
        fit(rl_module(temperature=temperature), toys(Corridor), callbacks=[watch])
    cold, warm = (batch.path.before[:, 0][batch.mask] for batch in watch.batches)
    assert cold.abs().max() == 0.0
    assert warm.std() == pytest.approx(1.0, abs=0.2)


def test_rollouts_of_one_seed_are_alike_and_of_another_are_not():
    watch = Watch()
    for seed in (0, 0, 1):
        fit(rl_module(seed=seed), toys(Corridor), callbacks=[watch])
    first, again, other = (batch.path.actions for batch in watch.batches)
    assert torch.equal(first, again)
    assert not torch.equal(first[:8], other[:8])


def test_a_value_head_without_weight_stays_as_it_is():
    module = rl_module(value_weight=0.0)
    fit(module, toys(Corridor))
    assert not any(parameter.any() for parameter in module.value_head.parameters())


def test_the_gradient_of_a_step_is_clipped(monkeypatch):
    """SGD at a rate of 1 moves by the gradient."""
    monkeypatch.setattr("vla_kit.training.flow_ppo.AdamW", lambda groups, betas: torch.optim.SGD(groups))
    module = rl_module(
        gradient_clip=0.01, epochs=1, minibatch_size=10**6, head_learning_rate=1.0, value_learning_rate=1.0
    )
    before = deepcopy(module.state_dict())
    fit(module, toys(Corridor))
    moved = [(parameter - before[name]).norm() for name, parameter in module.named_parameters()]
    assert torch.stack(moved).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_noise_that_is_learned_learns_too():
    noise = NoiseHead(context_width=32, channels=2, smallest_std=0.3, largest_std=0.9)
    module = rl_module(sampler=LearnedNoiseEuler(steps=2), noise_head=noise, head_learning_rate=1e-3)
    watch, before = Watch(), deepcopy(noise.state_dict())
    fit(module, toys(Corridor), rollouts=2, callbacks=[watch])
    assert not torch.equal(noise.readout.bias, before["readout.bias"])
    assert watch.logged[-1]["ppo/approximate_kl"] > 0
    with pytest.raises(SettingError, match="noise_head must be given with LearnedNoiseEuler and with nothing else"):
        rl_module(noise_head=noise)
    with pytest.raises(SettingError, match="noise_head must be given with LearnedNoiseEuler"):
        rl_module(sampler=LearnedNoiseEuler(steps=2))


def test_a_rollout_is_left_when_the_policy_has_moved_far():
    watch = Watch()
    fit(rl_module(head_learning_rate=0.1, target_kl=1e-4), toys(Corridor, episodes=64), rollouts=1, callbacks=[watch])
    assert watch.logged[0]["ppo/updates"] < 4 * 4


def test_the_reference_is_the_policy_that_the_stage_began_with(tmp_path):
    sft = sft_module()
    torch.nn.init.constant_(sft.head.readout.bias, 0.3)
    start = save(sft, tmp_path / "sft.ckpt")
    module = rl_module(kl_weight=0.1)
    watch, saved = Watch(), ModelCheckpoint(tmp_path, filename="last", every_n_train_steps=1)
    fit(module, toys(Corridor), tmp_path, rollouts=2, callbacks=[WarmStart(str(start)), watch, saved])
    assert watch.logged[-1]["ppo/kl"] > 0
    for now, then in zip(module.reference.parameters(), sft.head.parameters(), strict=True):
        assert torch.equal(now, then)
    again = rl_module(kl_weight=0.1)
    fit(again, toys(), tmp_path, rollouts=3, ckpt=tmp_path / "last.ckpt")
    for now, then in zip(again.reference.parameters(), sft.head.parameters(), strict=True):
        assert torch.equal(now, then)


def save(module, path):
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path, weights_only=True)
    return path


def test_begins_with_the_stage_before_and_refuses_another(tmp_path):
    start = save(sft_module(), tmp_path / "sft.ckpt")
    module = rl_module(head_learning_rate=0.0)
    fit(module, toys(), tmp_path, rollouts=1, callbacks=[WarmStart(str(start))])
    wider = save(sft_module(width=32), tmp_path / "wider.ckpt")
    with pytest.raises(CheckpointError, match=r"checkpoint must fit the model, got .*wider\.ckpt"):
        fit(rl_module(), toys(), tmp_path, rollouts=1, callbacks=[WarmStart(str(wider))])


def test_every_checkpoint_leads_to_the_same_end(tmp_path):
    """Policy, value head, reference, optimiser, seeds, shares and counts."""

    def run(name, ckpt=None):
        module, watch = rl_module(kl_weight=0.01), Watch()
        torch.manual_seed(len(name))  # whatever came before a run must not matter
        saved = ModelCheckpoint(
            tmp_path / name, filename="{step}", every_n_train_steps=1, save_top_k=-1, auto_insert_metric_name=False
        )
        data = toys(Corridor)
        data.make_envs["other"] = partial(Push)
        trainer = fit(module, data, tmp_path, rollouts=3, ckpt=ckpt, callbacks=[watch, saved])
        moments = [entry for state in trainer.optimizers[0].state_dict()["state"].values() for entry in state.values()]
        return module, watch, moments

    whole, watch, moments = run("whole")
    first, second, _ = sorted((tmp_path / "whole").glob("*.ckpt"), key=lambda path: int(path.stem))
    for done, checkpoint in ((1, first), (2, second)):
        module, rest, ours = run(f"from {done}", checkpoint)
        planned, expected = (
            [[episode.planned for episode in batch.episodes] for batch in batches]
            for batches in (rest.batches, watch.batches[done:])
        )
        assert planned == expected
        for (name, tensor), other in zip(module.state_dict().items(), whole.state_dict().values(), strict=True):
            assert torch.equal(tensor, other), name
        assert all(torch.equal(one, other) for one, other in zip(ours, moments, strict=True))
        assert rest.logged[-1]["rollout/steps"] == watch.logged[-1]["rollout/steps"]


def servers(folder):
    """Two servers of environments on this machine."""
    key, ready = folder / "key", queue.Queue()
    key.write_bytes(bytes(range(32)))
    for _ in range(2):
        serve = partial(serve_envs, str(key), "127.0.0.1:0", on_ready=ready.put)
        threading.Thread(target=serve, daemon=True).start()
    return OnServers([ready.get(timeout=60) for _ in range(2)], key_file=str(key))


@pytest.mark.slow
@pytest.mark.parametrize("where", ["processes", "servers", "ray"])
def test_the_policy_does_not_see_where_environments_run(where, tmp_path):
    if where == "ray":
        pytest.importorskip("ray", reason="needs the extra ray")
        from vla_kit.envs.ray_place import OnRay

        place = OnRay()
    else:
        place = InProcesses() if where == "processes" else servers(tmp_path)
    here, there = rl_module(), rl_module()
    fit(here, toys(Corridor), rollouts=2)
    fit(there, toys(Corridor, place=place), rollouts=2)
    for (name, ours), theirs in zip(here.state_dict().items(), there.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


def test_a_policy_that_yields_nan_stops_and_leaves_the_last_checkpoint(tmp_path):
    class Poisoned(RolloutDataModule):
        def play(self, module):
            if self.played == 1:
                with torch.no_grad():
                    module.head.readout.bias.fill_(float("nan"))
            return super().play(module)

    data = Poisoned(["metaworld/reach"], episodes=16, environments=4, place=InThisProcess())
    data.make_envs = {"toy": partial(Push)}
    saved = ModelCheckpoint(tmp_path, filename="last", every_n_train_steps=1)
    with pytest.raises(NonFiniteError, match=r"actions and values must be finite.*broken_batch\.pt"):
        fit(rl_module(), data, tmp_path, rollouts=2, callbacks=[saved])
    broken = torch.load(tmp_path / "broken_batch.pt", weights_only=True)
    assert broken["actions"].isnan().any()
    assert broken["views"][0]["cam"].shape == (4, 4, 3)
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert content["state_dict"]["head.readout.bias"].isfinite().all()


def test_a_loss_that_is_nan_stops_before_the_step(tmp_path):
    module = rl_module()

    class Poison(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            batch.rewards[3] = float("nan")

    before = deepcopy(module.head.state_dict())
    with pytest.raises(NonFiniteError, match="rewards, values and next_values must be finite"):
        fit(module, toys(), tmp_path, rollouts=1, callbacks=[Poison()])
    assert (tmp_path / "broken_batch.pt").is_file()
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.head.state_dict().items())


def test_a_gradient_that_is_nan_stops_before_the_step(tmp_path):
    module = rl_module()
    module.head.readout.bias.register_hook(lambda gradient: gradient * float("nan"))
    before = deepcopy(module.head.state_dict())
    with pytest.raises(NonFiniteError, match="gradients must be finite"):
        fit(module, toys(Corridor), tmp_path)
    assert (tmp_path / "broken_batch.pt").is_file()
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.head.state_dict().items())


def test_several_processes_are_refused(tmp_path):
    trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_checkpointing=False)
    data = toys()
    data.trainer = trainer
    with pytest.raises(SettingError, match=r"trainer\.devices must be 1 for rollouts, got 2 processes"):
        data.setup("fit")


def test_needs_statistics():
    module = rl_module()
    module.normalizer = type(module.normalizer)()
    with pytest.raises(MissingStatisticsError, match="walker"):
        fit(module, toys(), rollouts=1)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"minibatch_size": 0}, "minibatch_size must be at least 1, got 0"),
        ({"value_weight": -1.0}, "value_weight must be at least 0 and finite, got -1.0"),
        ({"value_learning_rate": float("nan")}, "value_learning_rate must be at least 0 and finite, got nan"),
        ({"gradient_clip": 0.0}, "gradient_clip must be above 0, got 0.0"),
        ({"target_kl": -0.1}, "target_kl must be above 0, got -0.1"),
        ({"advantages": "none"}, "advantages must be 'gae' or 'group', got 'none'"),
    ],
)
def test_refuses_settings(setting, said):
    with pytest.raises(SettingError, match=said):
        rl_module(**setting)


def test_plain_settings_are_remembered_and_parts_are_not():
    module = rl_module(epochs=3)
    assert module.hparams["epochs"] == 3
    assert module.hparams["head_learning_rate"] == 1e-2
    assert not set(module.hparams) & {*model_parts(), "sampler", "policy_loss", "value_loss"}
