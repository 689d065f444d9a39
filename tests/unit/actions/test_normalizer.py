import copy
import io
import math

import numpy as np
import pytest
import torch
from torch import nn

from vla_kit.actions import ActionSpace, ChannelGroup, MaskedActions, QuantileNormalizer, QuantileStats
from vla_kit.errors import CheckpointError, MissingStatisticsError, SettingError, ShapeError, StatisticsError


def space(size, *, through=0):
    groups = [ChannelGroup("joint", kind="joint", reference="absolute", unit="rad", count=size - through)]
    if through:
        gripper = {"kind": "gripper", "reference": "absolute", "unit": "0 closed, 1 open", "normalized": False}
        groups.append(ChannelGroup("gripper", **gripper, count=through))
    return ActionSpace(groups)


def random_stats(size, seed):
    return QuantileStats.from_frames(np.random.default_rng(seed).normal(size=(40, size)) * (1 + np.arange(size)))


ARM, HAND = random_stats(7, 0), random_stats(5, 1)
SPACES = {"arm": space(7, through=1), "hand": space(5)}


def two_robots():
    return QuantileNormalizer({"arm": ARM, "hand": HAND}, spaces=SPACES)


def one(low, high, *, through=0):
    stats = QuantileStats(q01=torch.tensor(low), q99=torch.tensor(high))
    return QuantileNormalizer({"robot": stats}, spaces={"robot": space(len(low), through=through)})


def batch(dtype=torch.float32):
    generator = torch.Generator().manual_seed(2)
    natives = [
        (torch.randn(steps, size, generator=generator) * 2).to(dtype) for steps, size in ((4, 5), (3, 7), (2, 5))
    ]
    return MaskedActions.pad(natives, channels=8), ["hand", "arm", "hand"]


def test_equation_five_by_hand():
    normalizer = one([-1.0, 10.0], [3.0, 20.0])
    actions = MaskedActions.pad([torch.tensor([[-1.0, 10.0], [3.0, 20.0], [0.0, 12.5], [-9.0, 99.0]])], channels=2)
    out = normalizer.normalize(actions, ["robot"])
    assert out.values[0].tolist() == [[-1, -1], [1, 1], [-0.5, -0.5], [-1, 1]]
    assert normalizer.denormalize(out, ["robot"]).values[0].tolist() == [[-1, 10], [3, 20], [0, 12.5], [-1, 20]]


def test_numpy_reference_on_a_mixed_batch():
    actions, names = batch()
    out = two_robots().normalize(actions, names)
    for native, result, name in zip(actions.cut(), out.cut(), names, strict=True):
        stats, a = {"arm": ARM, "hand": HAND}[name], native.double().numpy()
        low, high = stats.q01.double().numpy(), stats.q99.double().numpy()
        expected = np.clip(2 * (a - low) / (high - low) - 1, -1, 1)
        if name == "arm":
            expected[:, 6] = a[:, 6]
        np.testing.assert_allclose(result.numpy(), expected, atol=1e-6)
    assert torch.equal(out.mask, actions.mask)


def test_a_sample_alone_equals_itself_in_a_mixed_batch():
    actions, names = batch()
    together = two_robots().normalize(actions, names)
    for index, name in enumerate(names):
        alone = two_robots().normalize(
            MaskedActions(actions.values[index : index + 1], actions.mask[index : index + 1]), [name]
        )
        assert torch.equal(alone.values[0], together.values[index])


def test_round_trip_between_the_quantiles():
    low, high = ARM.q01, ARM.q99
    native = low + (high - low) * torch.rand(50, 7, generator=torch.Generator().manual_seed(0))
    actions, normalizer = MaskedActions.pad([native]), two_robots()
    back = normalizer.denormalize(normalizer.normalize(actions, ["arm"]), ["arm"])
    torch.testing.assert_close(back.values, actions.values, atol=2e-6, rtol=2e-6)


def test_both_ends_come_back_exactly():
    ends = torch.stack([ARM.q01, ARM.q99])
    normalizer = QuantileNormalizer({"arm": ARM}, spaces={"arm": space(7)})
    out = normalizer.normalize(MaskedActions.pad([ends]), ["arm"])
    assert out.cut()[0].tolist() == [[-1] * 7, [1] * 7]
    assert torch.equal(normalizer.denormalize(out, ["arm"]).cut()[0], ends)


@pytest.mark.parametrize("high", [0.7, 0.7 * (1 + 1e-7)])
@pytest.mark.parametrize("seen", [0.7, -5.0, 1e6])
def test_a_constant_channel_becomes_zero_and_comes_back(high, seen):
    normalizer = one([0.7], [high])
    out = normalizer.normalize(MaskedActions.pad([torch.tensor([[seen]])]), ["robot"])
    assert out.cut()[0].tolist() == [[0]]
    moved = MaskedActions(torch.where(out.mask, 0.3, out.values), out.mask)  # a prediction is never exactly 0
    assert normalizer.denormalize(moved, ["robot"]).cut()[0].item() == torch.tensor(0.7).item()


def test_a_narrow_channel_is_not_constant():
    out = one([1e-6], [2e-6]).normalize(MaskedActions.pad([torch.tensor([[1e-6], [2e-6]])]), ["robot"])
    assert out.cut()[0].flatten().tolist() == [-1, 1]


def test_pass_through_is_neither_scaled_nor_clipped():
    normalizer = one([0.0, 0.0], [1.0, 1.0], through=1)
    actions = MaskedActions.pad([torch.tensor([[0.5, -7.25], [0.5, 1.0]])])
    out = normalizer.normalize(actions, ["robot"])
    assert out.cut()[0].tolist() == [[0, -7.25], [0, 1]]
    assert normalizer.denormalize(out, ["robot"]).cut()[0].tolist() == [[0.5, -7.25], [0.5, 1]]


def test_predictions_outside_the_range_continue_linearly():
    normalizer = one([0.0], [10.0])
    out = normalizer.denormalize(MaskedActions.pad([torch.tensor([[-1.2], [1.2]])]), ["robot"])
    torch.testing.assert_close(out.cut()[0], torch.tensor([[-1.0], [11.0]]))


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("direction", ["normalize", "denormalize"])
def test_padding_changes_nothing_whatever_it_holds(direction, poison):
    actions, names = batch()
    map_actions = getattr(two_robots(), direction)
    clean_values = actions.values.clone().requires_grad_()
    poisoned_values = torch.where(actions.mask, actions.values, poison).requires_grad_()
    clean = map_actions(MaskedActions(clean_values, actions.mask), names).values
    poisoned = map_actions(MaskedActions(poisoned_values, actions.mask), names).values
    assert torch.equal(clean, poisoned)
    assert (poisoned[~actions.mask] == 0).all()
    clean.square().sum().backward()
    poisoned.square().sum().backward()
    assert torch.equal(clean_values.grad, poisoned_values.grad)


def test_a_real_entry_without_statistics_is_loud():
    actions = MaskedActions.pad([torch.zeros(1, 7)])
    out = two_robots().normalize(actions, ["hand"])
    assert out.values[0, 0, 5:7].isnan().all()
    assert not out.values[0, 0, :5].isnan().any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_of_the_actions_is_kept_and_the_maths_is_not_half(dtype):
    actions, names = batch(dtype)
    out = two_robots().normalize(actions, names)
    exact = two_robots().normalize(actions.to(dtype=torch.float64), names)
    assert out.values.dtype == dtype
    torch.testing.assert_close(out.values, exact.values.to(dtype))


@pytest.mark.parametrize("cast", [lambda m: m.to(torch.bfloat16), nn.Module.half, nn.Module.double])
def test_statistics_keep_their_precision(cast):
    actions, names = batch()
    model = nn.Sequential(two_robots(), nn.Linear(1, 1))
    expected = model[0].normalize(actions, names).values
    cast(model)
    assert model[1].weight.dtype != torch.float32
    assert model[0].q01.dtype == model[0].q99.dtype == torch.float32
    assert torch.equal(model[0].normalize(actions, names).values, expected)
    assert model[0].fingerprints == two_robots().fingerprints


def test_statistics_follow_the_device():
    assert two_robots().to("meta", torch.bfloat16).q01.device.type == "meta"


def test_deepcopy_is_independent():
    original = two_robots()
    copied = copy.deepcopy(original)
    copied.add("base", random_stats(3, 5), space(3))
    assert original.embodiments == ("arm", "hand")
    assert copied.embodiments == ("arm", "hand", "base")


def test_add_in_any_order_of_sizes():
    normalizer = QuantileNormalizer()
    for name, size in (("a", 2), ("b", 9), ("c", 4)):
        normalizer.add(name, random_stats(size, size), space(size))
    out = normalizer.normalize(MaskedActions.pad([torch.zeros(1, 4)], channels=4), ["c"])
    alone = QuantileNormalizer({"c": random_stats(4, 4)}, spaces={"c": space(4)})
    assert torch.equal(out.values, alone.normalize(MaskedActions.pad([torch.zeros(1, 4)], channels=4), ["c"]).values)
    assert repr(normalizer) == "QuantileNormalizer(a: 2, b: 9, c: 4)"


def test_adding_the_same_again_is_quiet_and_others_are_refused():
    normalizer = two_robots()
    normalizer.add("arm", ARM, space(7, through=1))
    assert normalizer.embodiments == ("arm", "hand")
    with pytest.raises(StatisticsError, match=r"must stay the same for one embodiment, got .* for 'arm'"):
        normalizer.add("arm", random_stats(7, 9), space(7, through=1))
    with pytest.raises(StatisticsError, match="must stay the same for one embodiment"):
        normalizer.add("arm", ARM, space(7))


class TestCheckpoint:
    @staticmethod
    def saved(module):
        file = io.BytesIO()
        torch.save(module.state_dict(), file)
        file.seek(0)
        return torch.load(file, weights_only=True)

    @pytest.mark.parametrize("assign", [False, True])
    def test_an_empty_normalizer_takes_everything(self, assign):
        actions, names = batch()
        model, empty = (
            nn.ModuleDict({"head": nn.Linear(1, 1), "normalizer": m}) for m in (two_robots(), QuantileNormalizer())
        )
        empty.load_state_dict(self.saved(model), strict=True, assign=assign)
        loaded = empty["normalizer"]
        assert loaded.embodiments == ("arm", "hand")
        assert loaded.fingerprints == two_robots().fingerprints
        assert torch.equal(loaded.normalize(actions, names).values, two_robots().normalize(actions, names).values)
        loaded.add("base", random_stats(3, 5), space(3))
        assert loaded.embodiments[-1] == "base"

    def test_a_state_dict_holds_nothing_but_tensors(self):
        assert all(isinstance(value, torch.Tensor) for value in two_robots().state_dict().values())

    def test_an_empty_one_loads_into_an_empty_one(self):
        loaded = QuantileNormalizer()
        loaded.load_state_dict(QuantileNormalizer().state_dict())
        assert loaded.embodiments == ()

    def test_the_same_statistics_in_another_order(self):
        turned = QuantileNormalizer({"hand": HAND, "arm": ARM}, spaces=SPACES)
        actions, names = batch()
        turned.load_state_dict(two_robots().state_dict())
        assert turned.embodiments == ("arm", "hand")
        assert torch.equal(turned.normalize(actions, names).values, two_robots().normalize(actions, names).values)

    @pytest.mark.parametrize("strict", [True, False])  # False forgives missing keys, never other numbers
    def test_other_statistics_are_refused_and_nothing_changes(self, strict):
        other = QuantileNormalizer({"arm": random_stats(7, 3), "hand": HAND}, spaces=SPACES)
        before = other.fingerprints
        with pytest.raises(CheckpointError, match=r"must be those of the normaliser, got others for \['arm'\]"):
            other.load_state_dict(two_robots().state_dict(), strict=strict)
        assert other.fingerprints == before

    def test_more_embodiments_come_with_the_checkpoint(self):
        mine = QuantileNormalizer({"hand": HAND}, spaces={"hand": SPACES["hand"]})
        mine.load_state_dict(two_robots().state_dict())
        actions, names = batch()
        assert mine.fingerprints == two_robots().fingerprints
        assert torch.equal(mine.normalize(actions, names).values, two_robots().normalize(actions, names).values)

    def test_a_checkpoint_without_an_embodiment_is_refused(self):
        mine = QuantileNormalizer(
            {"arm": ARM, "hand": HAND, "base": random_stats(9, 5)}, spaces={**SPACES, "base": space(9)}
        )
        with pytest.raises(CheckpointError, match=r"must have those of the normaliser \['arm'.*got \['arm', 'hand'\]"):
            mine.load_state_dict(two_robots().state_dict())

    def test_statistics_in_half_precision_are_noticed(self):
        state = two_robots().state_dict()
        state["q01"] = state["q01"].bfloat16()
        with pytest.raises(CheckpointError, match=r"statistics of 'arm' must have the fingerprint .* half precision"):
            QuantileNormalizer().load_state_dict(state)

    def test_a_checkpoint_without_statistics(self):
        with pytest.raises(RuntimeError, match="Missing key"):
            QuantileNormalizer().load_state_dict({})
        kept = two_robots()
        kept.load_state_dict({}, strict=False)
        assert kept.embodiments == ("arm", "hand")


def test_missing_statistics_name_the_known_ones():
    actions, _ = batch()
    with pytest.raises(MissingStatisticsError, match=r"got \['leg'\] without; known are \['arm', 'hand'\]"):
        two_robots().normalize(actions, ["hand", "leg", "hand"])
    with pytest.raises(MissingStatisticsError, match=r"known are \[\]"):
        QuantileNormalizer().denormalize(actions, ["arm"] * 3)


@pytest.mark.usefixtures("shape_hook_off")
def test_shape_and_setting_errors():
    actions, names = batch()
    with pytest.raises(ShapeError, match=r"embodiments must name every sample \(3\), got \['hand', 'arm'\]"):
        two_robots().normalize(actions, names[:2])
    with pytest.raises(ShapeError, match=r"got 'arm'\. Give a list"):
        two_robots().normalize(actions, "arm")
    with pytest.raises(ShapeError, match=r"padded to 7 channels or more for \['arm'\], got 2"):
        two_robots().normalize(MaskedActions.pad([torch.zeros(1, 2)], channels=2), ["arm"])
    with pytest.raises(StatisticsError, match=r"one entry per channel of the space of 'arm' \(5\), got 7"):
        QuantileNormalizer({"arm": ARM}, spaces={"arm": space(5)})
    with pytest.raises(SettingError, match=r"spaces must name the embodiments of stats \['arm'\], got \[\]"):
        QuantileNormalizer({"arm": ARM})
    with pytest.raises(SettingError, match="name must not be empty"):
        QuantileNormalizer().add("", ARM, space(7))


def test_without_clipping_it_undoes_denormalize_beyond_the_quantiles():
    space = ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad", count=2)])
    stats = QuantileStats(q01=torch.tensor([10.0, 3.0]), q99=torch.tensor([20.0, 3.0]))  # the second is constant
    normalizer = QuantileNormalizer({"arm": stats}, spaces={"arm": space})
    predicted = MaskedActions(torch.tensor([[[1.5, 0.0], [-2.0, 0.0]]]), torch.ones(1, 2, 2, dtype=torch.bool))
    native = normalizer.denormalize(predicted, ["arm"])
    torch.testing.assert_close(normalizer.normalize(native, ["arm"], clip=False).values, predicted.values)
    assert normalizer.normalize(native, ["arm"]).values[0, :, 0].tolist() == [1.0, -1.0]


def test_gives_its_statistics_back():
    space = ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad", count=2)])
    stats = QuantileStats(q01=torch.tensor([0.1, 0.2]), q99=torch.tensor([1.1, 2.2]))
    normalizer = QuantileNormalizer({"arm": stats}, spaces={"arm": space})
    assert normalizer.stats("arm").fingerprint == stats.fingerprint
    with pytest.raises(MissingStatisticsError, match=r"name must be one of \['arm'\], got 'leg'"):
        normalizer.stats("leg")
