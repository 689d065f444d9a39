"""One head for arms, navigation and human hands: what a sample costs does not depend on whom it shares a batch with."""

import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from vla_kit.actions import EigengraspBasis, MaskedActions, decode_hands
from vla_kit.data import HandMirror, hand_columns
from vla_kit.data.collate import Batch
from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.data.eigengrasp_file import save_eigengrasps
from vla_kit.data.family_shares import FamilyShares
from vla_kit.embodiment import EmbodimentPrompter, History, preset
from vla_kit.flow.path import interpolate, target_velocity
from vla_kit.heads import DiTHead
from vla_kit.losses import masked_mse
from vla_kit.policy import Policy, PolicyObservation
from vla_kit.training.demonstrations import DemonstrationDataModule
from vla_kit.training.vla_module import VLAModule

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from hand_files import write_vitra

FAMILIES = {"arm": "arm", "crane": "arm", "miniworld_agent": "navigation", "vitra": "hands"}
ROBOTS = {"arm", "crane", "miniworld_agent", "human_hands"}


def fitted_basis():
    rows = torch.linalg.qr(torch.randn(45, 45, generator=torch.Generator().manual_seed(0)))[0][:10]
    return EigengraspBasis(torch.linspace(-0.1, 0.1, 45), rows)


@pytest.fixture
def sets(tmp_path, make_set):
    save_eigengrasps(fitted_basis(), tmp_path / "basis.safetensors")
    for index in range(3):  # the left hand comes into the picture later, and goes again
        write_vitra(tmp_path / f"vitra/{index}.npz", steps=9, seed=index, seen={"left": [3, 4, 5, 6]})
    hands = DemonstrationSet(
        root=str(tmp_path / "vitra"),
        embodiment="human_hands",
        actions=hand_columns(),
        rate_hz=30.0,
        options={"basis": str(tmp_path / "basis.safetensors")},
    )
    crane = make_set("crane", size=3)
    walks = make_set(
        "miniworld_agent", size=3, words=("turn left", "go through the door and stop", "wait", "turn right")
    )
    return [make_set("arm"), crane, replace(walks, history=History(frames=2, rate_hz=10)), hands]


@pytest.fixture
def module(parts, prompter):
    walker = preset("miniworld_agent", rate_hz=10.0, chunk_size=3)
    specs = [*prompter.specs, walker, preset("human_hands", chunk_size=4)]
    wide = DiTHead(context_width=32, channels=33, width=16, depth=1, num_heads=2, mlp_hidden=16)
    built = parts() | {"prompter": EmbodimentPrompter(specs), "head": wide, "hand_basis": fitted_basis()}
    module = VLAModule(**built, backbone_learning_rate=1e-3, head_learning_rate=1e-2, backbone_warmup_steps=0)
    torch.manual_seed(0)
    for entry in module.head.parameters():
        torch.nn.init.normal_(entry, std=0.3)  # a new head answers 0
    return module


@pytest.fixture
def data(sets, module):
    data = DemonstrationDataModule(
        sets=sets,
        batch_size=8,
        validation_share=0,
        hand_mirror=HandMirror(),
        shares=FamilyShares(FAMILIES, shares={"arm": 40, "navigation": 20, "hands": 40}),
    )
    data.trainer = Trainer(logger=False, max_steps=100, accelerator="cpu", enable_checkpointing=False)
    data.trainer.strategy.connect(module)
    data.setup("fit")
    return data


def fixed_noise(field, actions, context, *, generator=None):
    """The flow loss of one draw, the same for every sample, so that samples can be compared across batches."""
    noise = torch.where(actions.mask, 0.3, 0.0)
    time = torch.full((len(actions.values),), 0.5)
    velocity = field(interpolate(actions.values, noise, time), time, context, actions.mask)
    return masked_mse(velocity, target_velocity(actions.values, noise), actions.mask)


def one_by_one(data, batch_of):
    """Samples of the data collated together, and each alone."""
    collate = data._collate(training=False)
    return collate(batch_of), [collate([sample]) for sample in batch_of]


def test_a_samples_loss_is_the_same_alone_and_in_the_mixed_batch(data, module):
    mixture = data.train_dataloader().mixture
    samples = mixture.samples(range(12))
    assert {sample.embodiment for sample in samples} == ROBOTS
    module.flow_loss = fixed_noise
    together, alone = one_by_one(data, samples)
    costs, _ = module._losses(together)
    assert (costs > 0).all()
    for row, single in enumerate(alone):
        torch.testing.assert_close(module._losses(single)[0][0], costs[row], atol=1e-5, rtol=1e-5)


def test_what_stands_beside_a_familys_own_entries_changes_nothing(data, module):
    """Channels and steps that only wider and longer families have, steps behind an end, hands out of sight."""
    module.flow_loss = fixed_noise
    batch = one_by_one(data, data.train_dataloader().mixture.samples(range(12)))[0]
    assert set(batch.embodiments) == ROBOTS
    walking = batch.actions.mask[batch.embodiments.index("miniworld_agent")]
    assert not walking[:, 3:].any()
    assert not walking[3:].any()  # 3 waypoints beside chunks of 4
    assert walking[0, :3].all()
    results = []
    for filling in (0.0, torch.nan):
        values = torch.where(batch.actions.mask, batch.actions.values, filling)
        module.zero_grad()
        cost, _ = module._losses(replace(batch, actions=MaskedActions(values, batch.actions.mask)))
        cost.sum().backward()
        grads = [entry.grad.clone() for entry in module.parameters() if entry.grad is not None]
        results.append([cost.detach(), *grads])
    assert results[0][0].gt(0).all()
    assert all(torch.equal(first, second) for first, second in zip(*results, strict=True))


def test_what_an_absent_hand_holds_changes_nothing(data, module):
    module.flow_loss = fixed_noise
    samples = [sample for sample in data.train_dataloader().mixture.samples(range(12)) if sample.known is not None]
    assert any(not sample.real[:, :16].any() and sample.real[:, 16:].any() for sample in samples)  # one hand alone
    results = []
    for spoil in (False, True):
        batch = one_by_one(data, samples)[0]
        values = torch.where(batch.actions.mask, batch.actions.values, torch.nan if spoil else 0)
        module.zero_grad()
        cost, _ = module._losses(replace(batch, actions=MaskedActions(values, batch.actions.mask)))
        cost.sum().backward()
        results.append(
            [cost.detach(), *(entry.grad.clone() for entry in module.parameters() if entry.grad is not None)]
        )
    assert all(torch.equal(first, second) for first, second in zip(*results, strict=True))


def test_each_family_has_its_own_log(data, module):
    logged = {}
    module.log = lambda name, value, **_: None
    module.log_dict = lambda values, **_: logged.update(values)
    batch = data._collate(training=True)(data.train_dataloader().mixture.samples(range(12)))
    module.training_step(batch, 0)
    assert set(logged) == {f"train/loss/{robot}" for robot in ROBOTS}


def test_statistics_hold_for_the_mirror_image(data, module):
    stats = module.normalizer.stats("human_hands")
    assert torch.allclose(stats.q01[0], -stats.q99[16])  # x of the left wrist and of the right one
    assert torch.allclose(stats.q99[6:16], stats.q99[22:32])  # grasps


def test_training_teaches_hands_and_validation_shows_them_as_they_are(sets, module, tmp_path):
    data = DemonstrationDataModule(sets=sets, batch_size=4, validation_share=0.3, hand_mirror=HandMirror())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=UserWarning)
        trainer = Trainer(
            logger=False, max_steps=2, accelerator="cpu", enable_progress_bar=False, default_root_dir=tmp_path
        )
        trainer.fit(module, data)
        found = trainer.validate(module, data, verbose=False)[0]
    assert data._collate(training=False).augment_sample is None
    assert np.isfinite(found["val/error/human_hands"])


def test_checkpoint_and_policy_carry_the_basis(data, module, tmp_path):
    state = module.state_dict()
    assert torch.equal(state["hand_basis.directions"], fitted_basis().directions)
    policy = Policy.from_module(module)
    policy.save(tmp_path / "policy")
    assert (tmp_path / "policy/eigengrasps.safetensors").is_file()
    back = Policy.load(tmp_path / "policy")
    assert torch.equal(back.hand_basis.mean, fitted_basis().mean)
    seen = PolicyObservation(embodiment="human_hands", instruction="stir", views={})
    (chunk,) = back.act([seen], generator=torch.Generator().manual_seed(0))
    assert chunk.shape == (4, 32)
    start = torch.eye(4).repeat(2, 1, 1)
    wrists, fingers = decode_hands(torch.from_numpy(chunk), start=start, basis=back.hand_basis)
    assert wrists.shape == (4, 2, 4, 4)
    assert fingers.isfinite().all()


def test_predictions_keep_the_channels_of_their_hand(data, module):
    batch: Batch = data._collate(training=False)(data.train_dataloader().mixture.samples(range(4)))
    for sizes, chunk in zip(batch.sizes, module.predict_step(batch, 0), strict=True):
        assert chunk.shape[1] == sizes
