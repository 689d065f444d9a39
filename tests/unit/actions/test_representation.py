import itertools

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from vla_kit.actions import ROTATION_SIZES, ActionRepresentation
from vla_kit.errors import SettingError, ShapeError

KINDS = ("absolute", "delta_step", "delta_chunk")
FORMS = tuple(ROTATION_SIZES)


def poses(form, steps=6, *, position=True, seed=0):
    rng = np.random.default_rng(seed)
    turns = Rotation.random(steps + 1, random_state=seed)
    numbers = {
        "axis_angle": turns.as_rotvec,
        "euler_xyz": lambda: turns.as_euler("xyz"),
        "quaternion_xyzw": lambda: turns.as_quat(canonical=True),
        "quaternion_wxyz": lambda: turns.as_quat(canonical=True, scalar_first=True),
        "rotation_6d": lambda: turns.as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(-1, 6),
        "matrix": lambda: turns.as_matrix().reshape(-1, 9),
    }[form]()
    places = rng.normal(size=(steps + 1, 3))
    rows = torch.from_numpy(np.concatenate([places, numbers], axis=1) if position else numbers).float()
    return rows[1:], rows[0], places, turns


def test_vectors_by_hand():
    targets, start = torch.tensor([[1.0, 0.0], [3.0, -1.0], [6.0, 1.0]]), torch.tensor([0.5, 2.0])
    step = ActionRepresentation(kind="delta_step").encode(targets, start)
    chunk = ActionRepresentation(kind="delta_chunk").encode(targets, start)
    assert step.tolist() == [[0.5, -2.0], [2.0, -1.0], [3.0, 2.0]]
    assert chunk.tolist() == [[0.5, -2.0], [2.5, -3.0], [5.5, -1.0]]
    assert ActionRepresentation().encode(targets).tolist() == targets.tolist()


def test_poses_by_hand_in_world_and_body():
    """The start looks along y (yaw 90 degrees) at (1, 0, 0); the target is 2 further along y and looks along -x."""
    quarter = torch.pi / 2
    start = torch.tensor([1.0, 0, 0, 0, 0, quarter])
    target = torch.tensor([[1.0, 2, 0, 0, 0, 2 * quarter - 1e-3]])
    world = ActionRepresentation(kind="delta_chunk", rotation="axis_angle").encode(target, start)
    body = ActionRepresentation(kind="delta_chunk", rotation="axis_angle", frame="body").encode(target, start)
    torch.testing.assert_close(world, torch.tensor([[0, 2.0, 0, 0, 0, quarter - 1e-3]]), atol=1e-6, rtol=0)
    torch.testing.assert_close(body, torch.tensor([[2.0, 0, 0, 0, 0, quarter - 1e-3]]), atol=1e-6, rtol=0)


def test_axes_of_a_turn_in_world_and_body():
    """From yaw 90 degrees, a turn about the body's x axis is one about the world's y axis."""
    quarter = torch.pi / 2
    start, turned = Rotation.from_rotvec([0, 0, quarter]), Rotation.from_rotvec([0, 0.4, 0])
    target = torch.from_numpy((turned * start).as_rotvec()).float()[None]
    first = torch.tensor([0, 0, quarter])
    for frame, expected in (("world", [0, 0.4, 0]), ("body", [0.4, 0, 0])):
        delta = ActionRepresentation(kind="delta_step", rotation="axis_angle", frame=frame).encode(target, first)
        torch.testing.assert_close(delta, torch.tensor([expected]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("frame", ["world", "body"])
@pytest.mark.parametrize("kind", ["delta_step", "delta_chunk"])
def test_agrees_with_scipy(kind, frame):
    targets, start, places, turns = poses("quaternion_xyzw")
    maths = ActionRepresentation(kind=kind, rotation="quaternion_xyzw", output="axis_angle", frame=frame)
    for step, row in enumerate(maths.encode(targets, start), start=1):
        before = step - 1 if kind == "delta_step" else 0
        if frame == "world":
            place, turn = places[step] - places[before], turns[step] * turns[before].inv()
        else:
            place, turn = turns[before].inv().apply(places[step] - places[before]), turns[before].inv() * turns[step]
        np.testing.assert_allclose(row, np.concatenate([place, turn.as_rotvec()]), atol=2e-6)


@pytest.mark.parametrize(
    ("kind", "form", "output", "frame", "position"),
    [
        combination
        for combination in itertools.product(KINDS, FORMS, (None, *FORMS), ("world", "body"), (True, False))
        if combination[0] != "absolute" or combination[3] == "world"
    ],
)
def test_inverse_is_exact_to_float32(kind, form, output, frame, position):
    targets, start, _, _ = poses(form, position=position)
    maths = ActionRepresentation(kind=kind, rotation=form, output=output, frame=frame)
    chunk = maths.encode(targets, start)
    assert chunk.dtype == torch.float32
    assert chunk.shape == (6, maths.size(targets.shape[1]))
    assert maths.target_size(chunk.shape[1]) == targets.shape[1]
    torch.testing.assert_close(maths.decode(chunk, start), targets, atol=4e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_inverse_of_vectors_is_exact_to_float32(kind):
    targets = 10 * torch.randn(16, 44, generator=torch.Generator().manual_seed(0))
    maths = ActionRepresentation(kind=kind)
    torch.testing.assert_close(maths.decode(maths.encode(targets, targets[3]), targets[3]), targets, atol=1e-5, rtol=0)


def test_steps_become_displacements_of_the_chunk():
    targets, start, _, _ = poses("axis_angle")
    steps = ActionRepresentation(kind="delta_step", rotation="axis_angle", frame="body")
    chunk = ActionRepresentation(kind="delta_chunk", rotation="axis_angle", frame="body")
    through = chunk.encode(steps.decode(steps.encode(targets, start), start), start)
    torch.testing.assert_close(through, chunk.encode(targets, start), atol=4e-6, rtol=0)


def test_absolute_numbers_stay_as_stored():
    targets = torch.tensor([[0.0, 0.0, 5.0]])  # an angle beyond pi
    assert torch.equal(ActionRepresentation(rotation="axis_angle").encode(targets), targets)
    other = ActionRepresentation(rotation="axis_angle", output="rotation_6d")
    assert other.encode(targets).shape == (1, 6)
    assert other.decode(other.encode(targets))[0, 2] == pytest.approx(5.0 - 2 * torch.pi)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rotation", [None, *FORMS])
@pytest.mark.parametrize("backwards", [False, True])
def test_padded_steps_change_nothing_whatever_they_hold(kind, rotation, backwards):
    targets, start, _, _ = poses(rotation or "axis_angle")
    maths = ActionRepresentation(kind=kind, rotation=rotation)
    run = maths.decode if backwards else maths.encode
    chunk = maths.encode(targets, start) if backwards else targets
    poisoned = chunk.clone()
    poisoned[4:] = torch.nan
    assert torch.equal(run(poisoned, start)[:4], run(chunk, start)[:4])
    poisoned[4:] = torch.inf
    assert torch.equal(run(poisoned, start)[:4], run(chunk, start)[:4])


def test_predictions_need_not_be_rotations():
    targets, start, _, _ = poses("quaternion_xyzw")
    maths = ActionRepresentation(kind="delta_chunk", rotation="quaternion_xyzw")
    chunk = maths.encode(targets, start)
    chunk[:, 3:] *= 1.7
    torch.testing.assert_close(maths.decode(chunk, start), targets, atol=4e-6, rtol=0)


def test_nothing_is_changed_in_place_and_empty_chunks_work():
    targets, start, _, _ = poses("axis_angle")
    before = targets.clone()
    for kind in KINDS:
        for rotation in (None, "axis_angle"):
            maths = ActionRepresentation(kind=kind, rotation=rotation)
            maths.encode(targets, start).fill_(7)
            assert torch.equal(targets, before)
            assert maths.decode(maths.encode(targets[:0], start), start).shape == (0, 6)


def test_refuses_settings(shape_hook_off):
    with pytest.raises(SettingError, match=r"kind must be one of .*got 'delta'"):
        ActionRepresentation(kind="delta")
    with pytest.raises(SettingError, match=r"rotation must be one of .*got 'euler'"):
        ActionRepresentation(rotation="euler")
    with pytest.raises(SettingError, match="output must be left out without rotation, got 'matrix'"):
        ActionRepresentation(output="matrix")
    for settings in ({"kind": "delta_step"}, {"rotation": "matrix"}):
        with pytest.raises(SettingError, match="frame must be 'world' unless"):
            ActionRepresentation(frame="body", **settings)


def test_refuses_chunks(shape_hook_off):
    delta = ActionRepresentation(kind="delta_chunk")
    with pytest.raises(SettingError, match="start must be given for delta_chunk"):
        delta.encode(torch.zeros(2, 3))
    with pytest.raises(SettingError, match="start must be given for delta_chunk"):
        delta.decode(torch.zeros(2, 3))
    with pytest.raises(ShapeError, match=r"start must have the shape of one target \(3,\), got \(4,\)"):
        delta.encode(torch.zeros(2, 3), torch.zeros(4))
    with pytest.raises(ShapeError, match=r"chunk must have the shape \(step, size\), got \(3,\)"):
        delta.decode(torch.zeros(3), torch.zeros(3))
    with pytest.raises(ShapeError, match=r"targets must have 4 channels as a rotation, or 7 as a pose, .* got 6"):
        ActionRepresentation(kind="delta_step", rotation="quaternion_wxyz").encode(torch.zeros(2, 6), torch.zeros(6))
