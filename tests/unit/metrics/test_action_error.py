import pytest
import torch

from vla_kit.actions import ActionSpace, ChannelGroup, MaskedActions
from vla_kit.errors import EmbodimentError, SettingError, ShapeError
from vla_kit.metrics.action_error import ActionError

SPACES = {
    "arm": ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad", count=2)]),
    "base": ActionSpace([ChannelGroup("speed", kind="base", reference="delta", unit="m/s")]),
}


def random_batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    actions = MaskedActions.pad(
        [torch.randn(3, 2, generator=generator), torch.randn(2, 1, generator=generator)], channels=4
    )
    return torch.randn(actions.values.shape, generator=generator), actions, ["arm", "base"]


def test_by_hand():
    target = MaskedActions.pad([torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[5.0]])], channels=3)
    metric = ActionError(SPACES)
    metric.update(torch.zeros(2, 2, 3), target.values, target.mask, ["arm", "base"])
    values = {name: value.item() for name, value in metric.compute().items()}
    assert values == {"arm/joint_0": 2.0, "arm/joint_1": 3.0, "arm": 2.5, "base/speed": 5.0, "base": 5.0}


def test_sums_are_float64_in_a_model_of_half_precision():
    model = torch.nn.ModuleList([ActionError(SPACES)]).to(torch.bfloat16)
    target = MaskedActions.pad([torch.full((1, 2), 1 / 3), torch.tensor([[5.0]])], channels=3)
    for _ in range(300):  # in bfloat16, 256 + 1 is 256
        model[0].update(target.values + target.mask, target.values, target.mask, ["arm", "base"])
    assert model[0].total[0, 0].item() == pytest.approx(300)


def test_batches_add_up_like_numpy_over_all_frames():
    metric = ActionError(SPACES)
    errors = []
    for seed in range(3):
        prediction, actions, names = random_batch(seed)
        metric.update(prediction, actions.values, actions.mask, names)
        errors.append((prediction - actions.values).abs()[0, :, :2].double())
    assert torch.allclose(metric.compute()["arm/joint_1"], torch.cat(errors)[:, 1].mean())


def test_padding_never_counts_nan_included():
    prediction, actions, names = random_batch()
    clean, poisoned = ActionError(SPACES), ActionError(SPACES)
    clean.update(prediction, actions.values, actions.mask, names)
    nan = torch.tensor(float("nan"))
    poisoned.update(
        torch.where(actions.mask, prediction, nan), torch.where(actions.mask, actions.values, nan), actions.mask, names
    )
    assert all(torch.equal(value, poisoned.compute()[name]) for name, value in clean.compute().items())


def test_two_processes_reduce_to_the_whole():
    whole, first, second = ActionError(SPACES), ActionError(SPACES), ActionError(SPACES)
    for metric, seed in ((first, 0), (second, 1)):
        prediction, actions, names = random_batch(seed)
        metric.update(prediction, actions.values, actions.mask, names)
        whole.update(prediction, actions.values, actions.mask, names)
    assert first._reductions["total"] is first._reductions["count"]
    assert torch.allclose(first.total + second.total, whole.total)
    assert torch.equal(first.count + second.count, whole.count)


def test_unseen_embodiment_is_nan_and_narrow_batches_fit():
    metric = ActionError(SPACES)
    metric.update(torch.zeros(1, 1, 1), torch.ones(1, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool), ["base"])
    assert metric.compute()["arm"].isnan()
    assert metric.compute()["base"].item() == 1.0


def test_wrong_arguments():
    prediction, actions, names = random_batch()
    metric = ActionError(SPACES)
    with pytest.raises(ShapeError, match=r"must have the shape of target \(2, 3, 4\), got \(2, 3, 3\)"):
        metric.update(prediction[..., :3], actions.values, actions.mask, names)
    with pytest.raises(ShapeError, match="embodiments must name the robot of each of the 2 samples, got 1"):
        metric.update(prediction, actions.values, actions.mask, names[:1])
    with pytest.raises(EmbodimentError, match=r"embodiments must be among \['arm', 'base'\], got \['hand'\]"):
        metric.update(prediction, actions.values, actions.mask, ["arm", "hand"])
    with pytest.raises(ShapeError, match="target must be as wide as the action spaces, got 1 channels"):
        metric.update(prediction[..., :1], actions.values[..., :1], actions.mask[..., :1], names)
    with pytest.raises(SettingError, match="spaces must hold at least one embodiment"):
        ActionError({})
