"""Measured gradients against those that autograd gives for each loss alone."""

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from vla_kit.actions import QuantileStats
from vla_kit.data import Collate, Sample
from vla_kit.data.conversations import ConversationSample
from vla_kit.errors import SettingError
from vla_kit.flow import UniformTime
from vla_kit.losses import FlowMatchingLoss, JointLoss
from vla_kit.protocols import Conversation, Message
from vla_kit.training.gradient_balance import GradientBalance, KeepRatio
from vla_kit.training.vla_module import VLAModule


class FixedNoise(FlowMatchingLoss):
    """The same noise every time."""

    def __call__(self, field, actions, context, *, generator=None):
        return super().__call__(field, actions, context, generator=torch.Generator().manual_seed(0))


class Recorder(CSVLogger):
    def __init__(self, folder):
        super().__init__(folder)
        self.seen = []

    def log_metrics(self, metrics, step=None):
        if "gradient/ratio" in metrics:
            self.seen.append((step, metrics))


@pytest.fixture
def module(parts):
    built = parts() | {"loss": JointLoss(action_weight=2.0, language_weight=0.1)}
    built["flow_loss"] = FixedNoise(UniformTime(), draws=2)
    module = VLAModule(**built, backbone_learning_rate=0.0, head_learning_rate=0.0)
    space = module.action_spaces["arm"]
    module.normalizer.add("arm", QuantileStats(q01=torch.zeros(2), q99=torch.ones(2)), space)
    torch.manual_seed(0)
    for entry in module.head.parameters():  # a new head answers 0 and asks nothing of the backbone
        torch.nn.init.normal_(entry, std=0.3)
    return module


@pytest.fixture
def batches(module):
    sample = Sample(
        embodiment="arm",
        instruction="push the block",
        views={},
        actions=torch.rand(4, 2),
        valid=torch.ones(4, dtype=torch.bool),
        dataset="arm",
        episode=0,
        frame=0,
    )
    messages = (Message(role="user", content=("what?",)), Message(role="assistant", content=("a block",)))
    talk = ConversationSample(conversation=Conversation(messages=messages), dataset="talk", index=0)

    def prepare(some):
        return module.prepare(some, with_labels=True)

    collate = Collate(prepare, prompter=module.prompter, channels=module.channels)
    return {"both": collate([talk, sample]), "robot": collate([sample]), "talk": collate([talk])}


def fit(module, batches, callback, folder, *, steps=1, **settings):
    logger = Recorder(folder)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=logger,
        callbacks=[callback],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    trainer.fit(module, DataLoader(batches, batch_size=None))
    return logger.seen


def test_norms_are_those_of_each_loss_alone(module, batches, tmp_path):
    [(step, seen)] = fit(module, [batches["both"]], GradientBalance(every_n_steps=1), tmp_path)
    norms = []
    for weights in ({"action_weight": 2.0, "language_weight": 0.0}, {"action_weight": 0.0, "language_weight": 0.1}):
        module.zero_grad()
        per_sample, language = module._losses(batches["both"])
        JointLoss(**weights)(action=per_sample, language=language).backward()
        gradients = [entry.grad for entry in module.backbone.parameters() if entry.grad is not None]
        norms.append(torch.stack([gradient.norm() for gradient in gradients]).norm().item())
    assert step == 0
    assert seen["gradient/language"] == pytest.approx(norms[1], rel=1e-4)
    assert seen["gradient/action"] == pytest.approx(norms[0], rel=1e-4)
    assert seen["gradient/ratio"] == pytest.approx(norms[1] / norms[0], rel=1e-4)
    assert seen["gradient/language_weight"] == 0.1


def test_measuring_changes_no_gradient(module, batches):
    per_sample, language = module._losses(batches["both"])
    total = module.loss(action=per_sample, language=language)
    expected = torch.autograd.grad(total, list(module.head.parameters()), retain_graph=True, allow_unused=True)
    module.parts = {"action": per_sample.mean(), "language": language}
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    GradientBalance(every_n_steps=1).on_before_backward(trainer, module, total)
    total.backward()
    for parameter, gradient in zip(module.head.parameters(), expected, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)


def test_steps_without_both_losses_and_those_between_are_not_measured(module, batches, tmp_path):
    given = [batches[name] for name in ("robot", "both", "both", "talk", "both", "both")]
    seen = fit(module, given, GradientBalance(every_n_steps=2), tmp_path, steps=6)
    assert [step for step, _ in seen] == [2, 4]


def test_a_rule_reaches_the_ratio_and_is_kept(module, batches, tmp_path):
    callback = GradientBalance(every_n_steps=1, rule=KeepRatio(0.5, share=1.0))
    [_, (_, second)] = fit(module, [batches["both"]] * 2, callback, tmp_path, steps=2)
    weight = callback.state_dict()["language_weight"]
    assert second["gradient/language_weight"] == module.loss.language_weight == weight != 0.1
    assert second["gradient/ratio"] == pytest.approx(0.5, rel=1e-4)  # nothing learns here, so the first one was enough
    again = GradientBalance(every_n_steps=9, rule=KeepRatio())
    again.load_state_dict(callback.state_dict())
    module.loss.language_weight = 3.0
    again.on_fit_start(None, module)
    assert module.loss.language_weight == weight


def test_a_part_of_the_way():
    rule = KeepRatio(2.0, share=0.5)
    assert rule.weight(action=8.0, language=4.0, before=1.0) == pytest.approx(2.0)  # root of 4 and 1


def test_settings_are_checked(module):
    for settings, text in [
        ({"ratio": 0.0}, "ratio must be above 0"),
        ({"ratio": float("inf")}, "and finite, got inf"),
        ({"share": 0.0}, r"share must lie in \(0, 1\], got 0.0"),
        ({"share": 1.5}, "got 1.5"),
    ]:
        with pytest.raises(SettingError, match=text):
            KeepRatio(**settings)
    with pytest.raises(SettingError, match="every_n_steps must be at least 1"):
        GradientBalance(every_n_steps=0)
    module.loss.language_weight = 0.0
    with pytest.raises(SettingError, match="language_weight must be above 0 where a rule moves it"):
        GradientBalance(rule=KeepRatio()).on_fit_start(None, module)
