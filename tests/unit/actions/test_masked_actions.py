import math

import pytest
import torch

from vla_kit.actions import ActionSpace, ChannelGroup, MaskedActions
from vla_kit.errors import DataError, DtypeError, ShapeError

ARM, HAND, BASE = (torch.arange(float(steps * size)).reshape(steps, size) for steps, size in ((4, 7), (2, 32), (8, 3)))


def test_pad_puts_the_channels_first_and_zeros_behind():
    actions = MaskedActions.pad([torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [4.0]])], channels=3)
    assert actions.values.tolist() == [[[1, 2, 0], [0, 0, 0]], [[3, 0, 0], [4, 0, 0]]]
    assert actions.mask.long().tolist() == [[[1, 1, 0], [0, 0, 0]], [[1, 0, 0], [1, 0, 0]]]
    assert len(actions) == 2


def test_width_is_64_unless_told():
    assert MaskedActions.pad([ARM]).values.shape == (1, 4, 64)


def test_robots_of_any_size_come_back_as_they_were():
    actions = MaskedActions.pad([ARM, HAND, BASE], horizon=10)
    assert actions.values.shape == (3, 10, 64)
    for spaces in (None, [7, 32, 3]):
        for native, back in zip([ARM, HAND, BASE], actions.cut(spaces), strict=True):
            assert torch.equal(native, back)


def test_cut_takes_one_space_for_all():
    space = ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad", count=7)])
    first, second = MaskedActions.pad([ARM, ARM + 1]).cut(space)
    assert torch.equal(first, ARM)
    assert torch.equal(second, ARM + 1)


def test_steps_that_are_not_valid_become_padding_whatever_they_hold():
    native = torch.tensor([[1.0], [math.nan], [math.inf]])
    actions = MaskedActions.pad([native], channels=2, valid=[torch.tensor([True, False, False])])
    assert actions.values.tolist() == [[[1, 0], [0, 0], [0, 0]]]
    assert actions.mask.sum() == 1
    assert actions.cut()[0].tolist() == [[1]]


def test_a_sample_without_valid_steps_is_allowed():
    actions = MaskedActions.pad([ARM], valid=[torch.zeros(4, dtype=torch.bool)])
    assert not actions.mask.any()
    assert actions.cut(7)[0].shape == (0, 7)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_pad_keeps_the_dtype(dtype):
    assert MaskedActions.pad([ARM.to(dtype)]).values.dtype == dtype


def test_pad_leaves_its_argument_alone():
    native = torch.ones(2, 2)
    MaskedActions.pad([native], valid=[torch.tensor([True, False])])
    assert torch.equal(native, torch.ones(2, 2))


def test_stack_joins_batches_of_different_robots_and_lengths():
    joined = MaskedActions.stack([MaskedActions.pad([ARM]), MaskedActions.pad([HAND, BASE])])
    alone = MaskedActions.pad([ARM, HAND, BASE])
    assert torch.equal(joined.values, alone.values)
    assert torch.equal(joined.mask, alone.mask)


def test_zeroed_clears_nan_and_blocks_its_gradient():
    values = torch.tensor([[[1.0, math.nan], [math.inf, -math.inf]]], requires_grad=True)
    mask = torch.tensor([[[True, False], [False, False]]])
    cleared = MaskedActions(values, mask).zeroed()
    assert cleared.values.tolist() == [[[1, 0], [0, 0]]]
    cleared.values.sum().backward()
    assert values.grad.tolist() == [[[1, 0], [0, 0]]]


def test_to_changes_the_values_only():
    moved = MaskedActions.pad([ARM]).to("cpu", dtype=torch.bfloat16)
    assert moved.values.dtype == torch.bfloat16
    assert moved.mask.dtype == torch.bool
    assert MaskedActions.pad([ARM]).to(torch.device("meta")).mask.device.type == "meta"


@pytest.mark.gpu
def test_pinned_memory():
    assert MaskedActions.pad([ARM]).pin_memory().mask.is_pinned()


@pytest.mark.usefixtures("shape_hook_off")
class TestErrors:
    def test_constructor(self):
        values, mask = torch.zeros(1, 2, 3), torch.ones(1, 2, 3, dtype=torch.bool)
        with pytest.raises(ShapeError, match=r"mask must have the shape of values \(1, 2, 3\), got \(1, 2, 2\)"):
            MaskedActions(values, mask[..., :2])
        with pytest.raises(ShapeError, match=r"values must have the axes .*got shape \(2, 3\)"):
            MaskedActions(values[0], mask[0])
        with pytest.raises(DtypeError, match=r"values must be floating point, got torch.int64"):
            MaskedActions(values.long(), mask)
        with pytest.raises(DtypeError, match=r"mask must be torch.bool, got torch.float32"):
            MaskedActions(values, mask.float())

    @pytest.mark.parametrize(
        ("natives", "settings", "error", "text"),
        [
            ([], {}, ShapeError, "natives must hold at least one chunk"),
            ([ARM], {"channels": 6}, ShapeError, r"channels must be at least .* got 6 and chunk 0 of \(4, 7\)"),
            ([ARM], {"horizon": 3}, ShapeError, r"horizon must be at least .* got 3 and chunk 0 of \(4, 7\)"),
            ([ARM[:0]], {}, ShapeError, r"non-empty tensors .* got \(0, 7\)"),
            ([ARM[0]], {}, ShapeError, r"non-empty tensors .* got \(7,\)"),
            ([ARM.long()], {}, DtypeError, r"floating point tensors, got torch.int64 in chunk 0"),
            ([ARM.numpy()], {}, DtypeError, "floating point tensors, got ndarray in chunk 0"),
            ([ARM, ARM.double()], {}, DtypeError, r"one dtype, got torch.float32 and torch.float64 in chunk 1"),
            ([BASE, ARM * math.nan], {}, DataError, "finite in every valid step, got NaN or infinity in chunk 1"),
            ([ARM + math.inf], {}, DataError, "got NaN or infinity in chunk 0"),
            ([ARM], {"valid": []}, ShapeError, r"valid must hold one mask per chunk \(1\), got 0"),
            ([ARM], {"valid": [torch.ones(4)]}, DtypeError, r"valid must hold torch.bool tensors, got torch.float32"),
            ([ARM], {"valid": [torch.ones(3) > 0]}, ShapeError, r"one entry per step \(4,\), got \(3,\) in chunk 0"),
        ],
    )
    def test_pad(self, natives, settings, error, text):
        with pytest.raises(error, match=text):
            MaskedActions.pad(natives, **settings)

    def test_stack(self):
        actions = MaskedActions.pad([ARM])
        with pytest.raises(ShapeError, match="parts must hold at least one"):
            MaskedActions.stack([])
        with pytest.raises(ShapeError, match=r"one channel width, got \[64, 8\]"):
            MaskedActions.stack([actions, MaskedActions.pad([ARM], channels=8)])
        with pytest.raises(DtypeError, match="parts must share one dtype"):
            MaskedActions.stack([actions, actions.to(dtype=torch.float64)])

    def test_cut(self):
        actions = MaskedActions.pad([ARM, BASE])
        with pytest.raises(ShapeError, match=r"one entry per sample \(2\), got 1"):
            actions.cut([7])
        with pytest.raises(ShapeError, match="sample 0 has 7 channels, got a space of 3"):
            actions.cut([3, 3])
