"""What RobotReader makes of data that robots recorded."""

import numpy as np
import pytest
import torch

from vla_kit.data import ChunkDataset
from vla_kit.data.action_columns import ActionColumns
from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.embodiment import PRESETS, History
from vla_kit.errors import DataError


@pytest.fixture
def gr1(shared_data):
    return lambda **settings: DemonstrationSet(
        root=str(shared_data / "groot_gr1_pnp"), embodiment="fourier_gr1", **settings
    )


@pytest.fixture
def bridge(shared_data):
    pytest.importorskip("tfrecord")
    return lambda **settings: DemonstrationSet(
        root=str(shared_data / "bridge_rlds_debug"), embodiment="widowx", **settings
    )


def test_gr1_as_recorded(gr1):
    reader = gr1(views={"ego": "observation.images.ego_view"}).open()
    assert (reader.num_episodes, reader.lengths.sum(), reader.action_size, reader.rate_hz) == (5, 2096, 44, 20.0)
    sample = ChunkDataset(reader, seconds=0.8)[415]
    assert (sample.episode, sample.frame, sample.actions.shape) == (0, 415, (16, 44))
    assert sample.valid.tolist() == [True] + [False] * 15
    assert sample.views["ego"].shape == (3, 256, 256)
    assert sample.instruction


@pytest.mark.parametrize("representation", ["delta_step", "delta_chunk"])
@pytest.mark.parametrize("pseudo", [False, True])
def test_gr1_as_deltas_and_back(gr1, representation, pseudo):
    column = "observation.state" if pseudo else "action"
    reader = gr1(
        actions=[
            ActionColumns(column, pseudo=pseudo, representation=representation, reference="observation.state"),
        ]
    ).open()
    stored = torch.from_numpy(reader.source.column(3, column)).float()
    state = torch.from_numpy(reader.source.column(3, "observation.state")).float()
    for frame in (0, 100, 405):
        chunk = reader.chunk(3, frame, 16)
        last = {column: stored[frame - 1]} if frame and not pseudo else {}
        targets = reader.recipe.targets(chunk, {"observation.state": state[frame], **last})
        torch.testing.assert_close(targets, stored[frame + pseudo :][: len(chunk)], atol=2e-6, rtol=0)


def test_gr1_pieces_by_the_columns_names(gr1):
    reader = gr1(actions=[ActionColumns("action", channels=["motor_22", "motor_0"])]).open()
    np.testing.assert_array_equal(reader.actions(1), reader.source.column(1, "action")[:, [22, 0]].astype(np.float32))
    with pytest.raises(
        DataError, match=r"groot_gr1_pnp: channels of 'action' .* got 'motor_44'. Did you mean 'motor_4"
    ):
        gr1(actions=[ActionColumns("action", channels=["motor_44"])]).open()


def test_gr1_does_not_fit_the_presets_end_effectors(gr1):
    one = gr1()
    with pytest.raises(DataError, match=r"groot_gr1_pnp: actions must give the 14 channels of 'fourier_gr1' .* got 44"):
        one.check(one.open(), PRESETS["fourier_gr1"])


def test_bridge_fits_its_preset(bridge):
    one = bridge(views={"cam": "observation/image_0"}, rate_hz=5)
    one.check(one.open(), PRESETS["widowx"])
    wrong = bridge(rate_hz=10)
    with pytest.raises(DataError, match=r"rate_hz must be that of 'widowx', 5.0 Hz, got 10 Hz"):
        wrong.check(wrong.open(), PRESETS["widowx"])


def test_pseudo_actions_of_bridge_follow_its_commands(bridge):
    """The states give nearly what was commanded, and best in the axes in which Bridge commands: the world's."""
    commands = bridge().open()

    def correlations(**settings):
        steps = ActionColumns("observation/state", channels="0:6", pseudo=True, representation="delta_step", **settings)
        reader = bridge(actions=[steps]).open()
        pairs = [(reader.actions(index), commands.actions(index)[:-1, :6]) for index in range(reader.num_episodes)]
        found, wanted = (np.concatenate(part) for part in zip(*pairs, strict=True))
        return np.array([np.corrcoef(found[:, place], wanted[:, place])[0, 1] for place in range(6)])

    world = correlations(rotation="euler_xyz")
    assert world.min() > 0.8
    assert (world[3:] > correlations()[3:]).all()
    assert (world > correlations(rotation="euler_xyz", frame="body")).all()


def test_numbers_of_bridge_that_are_no_quaternions(bridge):
    poses = ActionColumns("observation/state", pseudo=True, rotation="quaternion_xyzw")
    with pytest.raises(DataError, match=r"bridge_rlds_debug, episode 0: 'observation/state' must hold a rotation as"):
        bridge(actions=[poses]).open().actions(0)


def test_gr1_with_a_history(gr1):
    reader = gr1(views={"ego": "observation.images.ego_view"}).open()
    dataset = ChunkDataset(reader, horizon=1, history=History(frames=4, rate_hz=2))
    early, late = dataset.__getitems__([12, 300])
    assert (early.frame, late.frame, late.frame_rate_hz) == (12, 300, 2)
    torch.testing.assert_close(early.views["ego"], reader.frames(0, [2, 12])["ego"], rtol=0, atol=0)
    torch.testing.assert_close(late.views["ego"], reader.frames(0, [270, 280, 290, 300])["ego"], rtol=0, atol=0)
