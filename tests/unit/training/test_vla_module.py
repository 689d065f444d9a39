import math
from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging

from vla_kit.actions import MaskedActions, QuantileStats
from vla_kit.data.collate import Batch
from vla_kit.errors import CheckpointError, EmbodimentError, SettingError
from vla_kit.flow.path import interpolate, target_velocity
from vla_kit.losses import masked_mse
from vla_kit.protocols import Observation
from vla_kit.training.demonstrations import DemonstrationDataModule
from vla_kit.training.vla_module import VLAModule


def batch_of(module, *, poison=False):
    natives = [torch.tensor([[0.5, -0.5]]).repeat(4, 1), torch.full((4, 3), 0.25), torch.zeros(4, 2)]
    actions = MaskedActions.pad(natives, channels=4)
    if poison:
        actions = MaskedActions(torch.where(actions.mask, actions.values, torch.nan), actions.mask)
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    names = ("arm", "crane", "arm")
    seen = [Observation(prompt=module.prompter(name, "push the block"), views={"cam": image}) for name in names]
    return Batch(
        embodiments=names,
        instructions=("push the block",) * 3,
        actions=actions,
        sizes=(2, 3, 2),
        backbone_inputs=module.backbone.prepare(seen),
    )


@pytest.fixture
def filled(module):
    for name, size in (("arm", 2), ("crane", 3)):
        module.add_statistics(name, QuantileStats(q01=-torch.ones(size), q99=torch.ones(size)))
    module.log = lambda name, value, **_: module.logged.__setitem__(name, value.item())
    module.log_dict = lambda values, **_: module.logged.update({name: float(value) for name, value in values.items()})
    module.logged = {}
    return module


def test_training_step_is_the_loss_of_the_parts(filled):
    batch = batch_of(filled)
    torch.manual_seed(0)
    loss = filled.training_step(batch, 0)
    torch.manual_seed(0)
    normalized = filled.normalizer.normalize(batch.actions, batch.embodiments)
    per_sample = filled.flow_loss(filled.head, normalized, filled.backbone(batch.backbone_inputs))
    assert loss.item() == pytest.approx(per_sample.mean().item())
    assert filled.logged["train/loss/arm"] == pytest.approx(per_sample[[0, 2]].mean().item())
    assert filled.logged["train/loss/crane"] == pytest.approx(per_sample[1].item())


def test_padding_changes_no_loss_and_no_gradient(filled):
    grads = []
    for poison in (False, True):
        filled.zero_grad()
        torch.manual_seed(0)
        filled.training_step(batch_of(filled, poison=poison), 0).backward()
        grads.append([entry.grad.clone() for entry in filled.parameters() if entry.grad is not None])
    assert all(torch.equal(first, second) for first, second in zip(*grads, strict=True))


def fixed_noise(field, actions, context, *, generator=None):
    """The flow loss of one draw, the same for every sample, so that samples can be compared across batches."""
    noise = torch.where(actions.mask, 0.3, 0.0)
    time = torch.full((len(actions.values),), 0.5)
    velocity = field(interpolate(actions.values, noise, time), time, context, actions.mask)
    return masked_mse(velocity, target_velocity(actions.values, noise), actions.mask)


def stirred(module):
    """A new head answers 0; with other weights it answers something."""
    torch.manual_seed(0)
    for entry in module.head.parameters():
        torch.nn.init.normal_(entry, std=0.3)
    module.flow_loss = fixed_noise
    return module


def part_of(module, batch, rows, views):
    """Some samples of `batch_of`, with the views of each named."""
    image = torch.arange(3 * 32 * 32).view(3, 32, 32).remainder(251).to(torch.uint8)
    names = tuple(batch.embodiments[row] for row in rows)
    seen = [
        Observation(prompt=module.prompter(name, "push the block"), views={"cam": image} if views[row] else {})
        for name, row in zip(names, rows, strict=True)
    ]
    return Batch(
        embodiments=names,
        instructions=("push the block",) * len(rows),
        actions=MaskedActions(batch.actions.values[list(rows)], batch.actions.mask[list(rows)]),
        sizes=tuple(batch.sizes[row] for row in rows),
        backbone_inputs=module.backbone.prepare(seen),
    )


def test_a_sample_whose_views_are_missing_costs_what_it_costs_alone(filled):
    module, batch, views = stirred(filled), batch_of(filled), (True, False, True)
    together = module._losses(part_of(module, batch, (0, 1, 2), views))[0]
    alone = torch.cat([module._losses(part_of(module, batch, (row,), views))[0] for row in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    seeing = module._losses(part_of(module, batch, (1,), (True,) * 3))[0]
    assert (seeing - alone[1]).abs() > 1e-3  # the picture would have mattered


def gradients(module, batch):
    module.zero_grad()
    loss = module.training_step(batch, 0)
    loss.backward()
    return loss, {name: entry.grad.clone() for name, entry in module.named_parameters() if entry.grad is not None}


@pytest.mark.parametrize("others", [(0, 2), ()])
def test_a_sample_without_a_real_action_costs_nothing_and_teaches_nothing(others, filled):
    module, whole, views = stirred(filled), batch_of(filled), (True,) * 3
    values, mask = whole.actions.values.clone(), whole.actions.mask.clone()
    values[1], mask[1] = math.nan, False
    masked = replace(whole, actions=MaskedActions(values, mask))
    rows = sorted((*others, 1))
    batch = part_of(module, masked, rows, views)
    assert module._losses(batch)[0][rows.index(1)] == 0
    loss, learned = gradients(module, batch)
    expected = {}
    if others:
        other, expected = gradients(module, part_of(module, whole, others, views))
        torch.testing.assert_close(3 * loss, 2 * other)  # means over three and over two samples
    else:
        assert loss == 0
    for name, gradient in learned.items():
        wanted = 2 / 3 * expected[name] if others else torch.zeros_like(gradient)
        torch.testing.assert_close(gradient, wanted, atol=1e-5 * float(wanted.abs().max()), rtol=1e-4, msg=name)


def test_sampling_for_a_sample_without_a_real_action_is_finite(filled):
    whole = batch_of(filled)
    mask = whole.actions.mask.clone()
    mask[1] = False
    native = filled._predict(replace(whole, actions=MaskedActions(whole.actions.values, mask)))
    assert native.values.isfinite().all()
    assert (native.values[1] == 0).all()


def test_a_checkpoint_of_another_shape_is_refused_by_key(parts, module):
    checkpoint = {"state_dict": VLAModule(**parts(width=32)).state_dict()}
    with pytest.raises(CheckpointError, match=r"of another shape: head\.\S+ \(.*settings that it was trained with"):
        module.on_load_checkpoint(checkpoint)
    del checkpoint["state_dict"]["head.action_in.0.weight"]
    with pytest.raises(CheckpointError, match=r"1 missing: head\.action_in\.0\.weight"):
        module.on_load_checkpoint(checkpoint)


def test_validation_uses_the_same_noise_every_time(filled):
    batch = batch_of(filled)
    filled.validation_step(batch, 0)
    first = filled.logged["val/loss"]
    filled.validation_step(batch, 0)
    assert filled.logged["val/loss"] == first
    filled.validation_step(batch, 1)
    assert filled.logged["val/loss"] != first


def test_validation_reports_errors_in_native_units(filled):
    filled.action_error.reset()
    filled.validation_step(batch_of(filled), 0)
    filled.on_validation_epoch_end()
    assert {"val/error/arm", "val/error/arm/joint_0", "val/error/crane/joint_2"} <= set(filled.logged)
    assert all(not math.isnan(value) for value in filled.logged.values())


def test_prediction_is_native_and_cut_to_the_robot(filled):
    with torch.no_grad():
        chunks = filled.predict_step(batch_of(filled), 0)
    assert [tuple(chunk.shape) for chunk in chunks] == [(4, 2), (4, 3), (4, 2)]


def test_unknown_robot_is_refused(module):
    with pytest.raises(EmbodimentError, match="'boat'"):
        module.add_statistics("boat", QuantileStats(q01=torch.zeros(1), q99=torch.ones(1)))


def test_frozen_parts_do_not_learn_and_stay_in_evaluation_mode(parts):
    module = VLAModule(**parts(), freeze=["backbone"])
    module.train()
    assert module.head.training
    assert not module.backbone.training
    assert not any(entry.requires_grad for entry in module.backbone.parameters())
    assert all(entry.requires_grad for entry in module.head.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze": ["tail"]}, r"freeze must name modules such as .*'head'.*, got \['tail'\]"),
        ({"freeze": ["backbone", "head"]}, "freeze must leave something to learn"),
        ({"head_warmup_steps": -1}, "warmup_steps must be at least 0, got -1"),
        ({"weight_decay": -0.1}, "weight_decay must be at least 0 and finite, got -0.1"),
        ({"head_learning_rate": -1.0}, "head_learning_rate must be at least 0 and finite, got -1.0"),
    ],
)
def test_refuses_settings(parts, settings, message):
    with pytest.raises(SettingError, match=message):
        VLAModule(**parts(), **settings)


def test_each_part_has_a_schedule_of_its_own(parts, make_set, tmp_path):
    module = VLAModule(
        **parts(), backbone_learning_rate=1.0, head_learning_rate=2.0, backbone_warmup_steps=4, head_warmup_steps=1
    )
    module.trainer = Trainer(max_steps=10, logger=False, accelerator="cpu", enable_checkpointing=False)
    module.trainer.fit_loop.epoch_loop.max_steps = 10
    type(module.trainer).estimated_stepping_batches, kept = 10, type(module.trainer).estimated_stepping_batches
    try:
        settings = module.configure_optimizers()
    finally:
        type(module.trainer).estimated_stepping_batches = kept
    optimizer, scheduler = settings["optimizer"], settings["lr_scheduler"]["scheduler"]
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates == {"backbone": 0.25, "backbone_vectors": 0.25, "head": 2.0, "head_vectors": 2.0}
    assert scheduler.state_dict()["last_epoch"] == 0


def test_a_few_steps_lower_the_loss(parts, make_set, tmp_path):
    torch.manual_seed(0)
    module = VLAModule(
        **parts(), head_learning_rate=1e-2, backbone_learning_rate=1e-3, head_warmup_steps=0, backbone_warmup_steps=0
    )
    data = DemonstrationDataModule(sets=[make_set("arm")], batch_size=16, validation_share=0.25)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=40,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        val_check_interval=40,
        check_val_every_n_epoch=None,
        callbacks=[EMAWeightAveraging(decay=0.9, use_buffers=False)],
    )
    trainer.fit(module, datamodule=data)
    assert trainer.callback_metrics["val/loss"] < 1.3  # a head that answers 0 has about 1 + 1/3
    assert module.normalizer.sizes.tolist() == [2]
    assert module.normalizer.normalized.all()
