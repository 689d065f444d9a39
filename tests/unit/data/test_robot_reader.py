import pickle

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from vla_kit.data.action_columns import ActionColumns
from vla_kit.data.episodes import EpisodeReader
from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.data.robot_reader import RobotReader
from vla_kit.errors import DataError, SettingError

LENGTHS = (6, 1, 4)


def make_source(**settings):
    rng = np.random.default_rng(0)
    return MemorySource(
        [
            MemoryEpisode(
                columns={
                    "action": rng.normal(size=(length, 3)),
                    "state": rng.normal(size=(length, 4)).astype(np.float32),
                    "pose": np.concatenate(
                        [rng.normal(size=(length, 3)), Rotation.random(length, random_state=length).as_quat()], axis=1
                    ),
                    "open": np.arange(length)[:, None] % 2 == 0,
                },
                cameras={
                    "top": rng.integers(0, 256, (length, 4, 5, 3), dtype=np.uint8),
                    "wrist": rng.integers(0, 256, (length, 2 + index, 2, 3), dtype=np.uint8),
                },
                instruction=f"task {index}",
            )
            for index, length in enumerate(LENGTHS)
        ],
        **{"name": "toy", "rate_hz": 10, **settings},
    )


def open_robot(*actions, source=None, **settings):
    return RobotReader(
        source or make_source(), embodiment="arm", actions=actions or (ActionColumns("action"),), **settings
    )


def test_satisfies_the_protocol_and_passes_the_source_on():
    reader = open_robot(views={"cam": "top"})
    assert isinstance(reader, EpisodeReader)
    assert (reader.name, reader.embodiment, reader.location, reader.rate_hz) == ("toy", "arm", "memory:toy", 10)
    assert (reader.num_episodes, reader.action_size, reader.views) == (3, 3, {"cam": "top"})
    assert reader.lengths.tolist() == reader.num_steps.tolist() == list(LENGTHS)
    assert reader.episode(2).instruction == reader.instruction_at(2, 3) == "task 2"
    assert not reader.chunk_relative
    assert open_robot(rate_hz=4).rate_hz == 4


def test_default_actions_are_the_columns_numbers():
    reader = open_robot()
    for index in range(3):
        stored = torch.from_numpy(reader.source.column(index, "action")).float()
        assert torch.equal(reader.actions(index), stored)
        assert torch.equal(reader.chunk(index, 0, 2), stored[:2])


def test_pieces_stand_in_the_order_given():
    reader = open_robot(ActionColumns("state", channels=[3, 0]), ActionColumns("open"), ActionColumns("action"))
    state, action = reader.source.column(0, "state"), reader.source.column(0, "action")
    expected = np.concatenate([state[:, [3, 0]], np.array([[1, 0, 1, 0, 1, 0]]).T, action], axis=1)
    np.testing.assert_allclose(reader.actions(0), expected.astype(np.float32))


def test_pseudo_actions_are_finite_differences_of_the_state():
    reader = open_robot(ActionColumns("state", channels="0:2", pseudo=True, representation="delta_step"))
    assert reader.num_steps.tolist() == [5, 0, 3]
    state = reader.source.column(0, "state")[:, :2].astype(np.float64)
    np.testing.assert_allclose(reader.actions(0), np.diff(state, axis=0), rtol=1e-6)
    assert torch.equal(reader.chunk(0, 3, 9), reader.actions(0)[3:])
    assert reader.actions(1).shape == reader.chunk(0, 5, 2).shape == (0, 2)


def test_pseudo_actions_without_deltas_are_the_next_state():
    reader = open_robot(ActionColumns("state", pseudo=True))
    assert torch.equal(reader.actions(2), torch.from_numpy(reader.source.column(2, "state")[1:]))


def test_steps_are_measured_from_the_target_before_and_first_from_the_state():
    reader = open_robot(
        ActionColumns("action", representation="delta_step", reference="state", reference_channels="1:4")
    )
    action, state = reader.source.column(0, "action"), reader.source.column(0, "state")
    expected = np.diff(action, axis=0, prepend=state[:1, 1:].astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(reader.actions(0), expected, rtol=1e-6)
    assert torch.equal(reader.chunk(0, 2, 3), reader.actions(0)[2:5])
    assert not reader.chunk_relative


def test_displacements_are_measured_from_the_chunks_first_frame():
    reader = open_robot(
        ActionColumns("action", representation="delta_chunk", reference="state", reference_channels="1:4")
    )
    action, state = reader.source.column(0, "action"), reader.source.column(0, "state")
    for frame in range(6):
        expected = action[frame:] - state[frame, 1:].astype(np.float64)
        np.testing.assert_allclose(reader.chunk(0, frame, 9), expected.astype(np.float32), rtol=1e-6)
    assert reader.chunk_relative
    assert torch.equal(reader.actions(0), reader.chunk(0, 0, 6))


@pytest.mark.parametrize("representation", ["delta_step", "delta_chunk"])
@pytest.mark.parametrize("frame", ["world", "body"])
def test_poses_become_displacements_and_back(representation, frame):
    reader = open_robot(
        ActionColumns(
            "pose",
            pseudo=True,
            representation=representation,
            rotation="quaternion_xyzw",
            output="axis_angle",
            frame=frame,
        ),
        ActionColumns("open"),
    )
    assert reader.action_size == 7
    for at in range(5):
        chunk = reader.chunk(0, at, 4)
        targets = reader.recipe.targets(chunk, {"pose": torch.from_numpy(reader.source.column(0, "pose")[at]).float()})
        stored = reader.source.column(0, "pose")[at + 1 : at + 5]
        turned = Rotation.from_quat(targets[:, 3:7].numpy()) * Rotation.from_quat(stored[:, 3:]).inv()
        np.testing.assert_allclose(targets[:, :3], stored[:, :3], atol=2e-6)
        np.testing.assert_allclose(turned.magnitude(), 0, atol=4e-6)
        np.testing.assert_array_equal(targets[:, 7], reader.source.column(0, "open")[at : at + len(chunk), 0])


def test_steps_are_undone_from_the_last_target_or_from_the_state():
    reader = open_robot(
        ActionColumns("action", representation="delta_step", reference="state", reference_channels="0:3")
    )
    action, state = (torch.from_numpy(reader.source.column(0, key)).float() for key in ("action", "state"))
    later = reader.recipe.targets(reader.chunk(0, 2, 3), {"state": state[2], "action": action[1]})
    torch.testing.assert_close(later, action[2:5])
    first = reader.recipe.targets(reader.chunk(0, 0, 3), {"state": state[0]})
    torch.testing.assert_close(first, action[:3])


def test_what_deployment_must_give(shape_hook_off):
    recipe = open_robot(ActionColumns("state", pseudo=True, representation="delta_chunk")).recipe
    with pytest.raises(
        SettingError, match=r"start must hold the row of 'state' that delta_chunk of 'state' .* got \[\]"
    ):
        recipe.targets(torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"start\['state'\] must have the shape of the column \(4,\), got \(3,\)"):
        recipe.targets(torch.zeros(2, 4), {"state": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"chunk must have the shape \(step, 4\), got \(2, 3\)"):
        recipe.targets(torch.zeros(2, 3), {"state": torch.zeros(4)})
    assert pickle.loads(pickle.dumps(recipe)).size == 4


def test_frames_in_the_order_of_views():
    reader = open_robot(views={"wrist": "wrist", "front": "top"})
    frames = reader.frames(2, [3, 0, 3])
    assert list(frames) == ["wrist", "front"]
    assert torch.equal(frames["front"], reader.source.images(2, "top", [3, 0, 3]))
    assert open_robot().frames(0, [0]) == {}


def test_cached_frames_equal_decoded_ones_of_any_size(monkeypatch):
    source = make_source()
    views = {"front": "top", "wrist": "wrist"}
    plain, cached = open_robot(source=source, views=views), open_robot(source=source, views=views, cache_frames=True)
    expected = [plain.frames(index, [0, length - 1]) for index, length in enumerate(LENGTHS)]
    monkeypatch.setattr(MemorySource, "images", None)
    for index, length in enumerate(LENGTHS):
        found = cached.frames(index, [0, length - 1])
        assert list(found) == ["front", "wrist"]
        assert all(torch.equal(found[tag], expected[index][tag]) for tag in views)
    assert torch.equal(pickle.loads(pickle.dumps(cached)).frames(0, [5])["wrist"], expected[0]["wrist"][1:])
    with pytest.raises(DataError, match=r"frame must lie in \[0, 6\) in episode 0 of memory:toy, got -1"):
        cached.frames(0, [0, -1])


def test_changing_what_was_returned_does_not_change_the_set():
    reader = open_robot(views={"front": "top"}, cache_frames=True)
    before, picture = reader.actions(0).clone(), reader.frames(0, [1])["front"].clone()
    reader.actions(0).fill_(7)
    reader.frames(0, [1])["front"].fill_(7)
    reader.lengths.fill(7)
    assert torch.equal(reader.actions(0), before)
    assert torch.equal(reader.frames(0, [1])["front"], picture)
    assert reader.lengths.tolist() == list(LENGTHS)


def test_fingerprint_follows_data_and_meaning_not_names():
    plain = open_robot().fingerprint
    assert open_robot(source=make_source(name="other")).fingerprint == plain
    assert open_robot(ActionColumns("action", channels="0:3"), views={"front": "top"}).fingerprint == plain
    others = {
        open_robot(ActionColumns("action", channels="0:2")).fingerprint,
        open_robot(ActionColumns("state")).fingerprint,
        open_robot(ActionColumns("state", pseudo=True)).fingerprint,
        open_robot(ActionColumns("state", pseudo=True, representation="delta_step")).fingerprint,
        open_robot(ActionColumns("state", pseudo=True, representation="delta_chunk")).fingerprint,
    }
    assert len(others | {plain}) == 6


def test_indices_outside():
    reader = open_robot()
    with pytest.raises(DataError, match=r"index must be an episode of memory:toy in \[0, 3\), got 3"):
        reader.actions(3)
    with pytest.raises(DataError, match=r"frame must lie in \[0, 4\) in episode 2 of memory:toy, got 4"):
        reader.chunk(2, 4, 1)
    with pytest.raises(SettingError, match="horizon must be at least 1, got 0"):
        reader.chunk(2, 0, 0)


@pytest.mark.parametrize("rate_hz", [0, -1, float("nan"), float("inf")])
def test_wrong_rates(rate_hz):
    with pytest.raises(SettingError, match="rate_hz must be above 0 and finite"):
        open_robot(rate_hz=rate_hz)


@pytest.mark.parametrize(
    ("actions", "text"),
    [
        ([ActionColumns("acton")], r"memory:toy: column must be .* got 'acton'. Did you mean 'action'\? There are \["),
        ([ActionColumns("action", channels="0:4")], r"channels of 'action' must be 'all', a range within '0:3'.*'0:4'"),
        ([ActionColumns("action", channels="gripper")], r"got 'gripper'. .*names stand in a list, such as \[gripper\]"),
        ([ActionColumns("action", channels=[66])], r"channels of 'action' must lie in \[0, 3\), got 66. .*quotes"),
        ([ActionColumns("action", channels=[-1])], r"must lie in \[0, 3\), got -1"),
        ([ActionColumns("action", channels=[1, 1])], r"must name every channel once, got \[1\] twice"),
        ([ActionColumns("action", channels=["x"])], r"must be names of the data set, got 'x'. There are none."),
        (
            [ActionColumns("action", representation="delta_step", reference="sate")],
            r"reference must be a column of the data set, got 'sate'. Did you mean 'state'",
        ),
        (
            [ActionColumns("action", representation="delta_step", reference="state")],
            r"reference_channels of 'state' must be as many as the channels of 'action' \(3\), got 4",
        ),
        (
            [ActionColumns("state", rotation="quaternion_xyzw", channels="0:3")],
            r"'state': targets must have 4 channels",
        ),
    ],
)
def test_wrong_columns_name_place_key_and_remedy(actions, text):
    with pytest.raises(DataError, match=text):
        open_robot(*actions)


def test_wrong_views_and_no_actions():
    with pytest.raises(
        DataError, match=r"memory:toy: views\['front'\] must be a camera .* got 'wris'. Did you mean 'wrist'\?"
    ):
        open_robot(views={"front": "wris"})
    with pytest.raises(SettingError, match=r"actions must hold at least one ActionColumns, got none for memory:toy"):
        RobotReader(make_source(), embodiment="arm", actions=())


def test_numbers_that_are_no_rotations_name_the_frame():
    reader = open_robot(ActionColumns("state", rotation="quaternion_wxyz", output="axis_angle"))
    with pytest.raises(
        DataError, match=r"memory:toy, episode 2: 'state' must hold a rotation as quaternion_wxyz .* in frame \d"
    ):
        reader.actions(2)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"representation": "delta_step"}, "reference must name the column of the state that delta_step of 'action'"),
        ({"channels": []}, r"channels must name at least one channel, got \[\] for 'action'"),
        ({"reference": "state"}, "reference must be left out for absolute actions, got 'state'"),
        ({"reference_channels": "0:2"}, "reference_channels must be left out without reference"),
        (
            {"representation": "delta"},
            r"representation must be one of \('absolute', 'delta_step', 'delta_chunk'\), got 'delta'",
        ),
        ({"output": "matrix"}, "output must be left out without rotation"),
    ],
)
def test_settings_that_contradict_each_other(settings, text, shape_hook_off):
    with pytest.raises(SettingError, match=text):
        ActionColumns("action", **settings)


def test_data_workers_read_the_same_actions():
    reader = open_robot(ActionColumns("state", pseudo=True, representation="delta_chunk"))
    loader = torch.utils.data.DataLoader(_Chunks(reader), batch_size=None, num_workers=1)
    assert torch.equal(next(iter(loader)), reader.chunk(0, 1, 3))


class _Chunks(torch.utils.data.Dataset):
    def __init__(self, reader):
        self.reader = reader

    def __len__(self):
        return 1

    def __getitem__(self, item):
        return self.reader.chunk(0, 1, 3)


def with_state(*pieces, **settings):
    return open_robot(state=pieces or (ActionColumns("state"),), **settings)


def test_states_are_the_columns_numbers_at_the_frame():
    reader = with_state(ActionColumns("open"), ActionColumns("state", channels=[3, 0]))
    state = reader.source.column(0, "state")
    assert (reader.state_size, reader.action_size) == (3, 3)
    assert reader.states(0, 2, 3).tolist() == [
        [float((frame + 1) % 2), *state[frame, [3, 0]].tolist()] for frame in (2, 3, 4)
    ]
    assert reader.states(2, 3, 9).shape == (1, 3)
    assert torch.equal(pickle.loads(pickle.dumps(reader)).states(0, 0, 6), reader.states(0, 0, 6))


def test_states_may_be_turned_into_another_form():
    reader = with_state(ActionColumns("pose", rotation="quaternion_xyzw", output="axis_angle"))
    stored = reader.source.column(0, "pose")
    found = reader.states(0, 0, 6)
    np.testing.assert_allclose(found[:, :3], stored[:, :3], rtol=1e-6)
    np.testing.assert_allclose(found[:, 3:], Rotation.from_quat(stored[:, 3:]).as_rotvec(), atol=1e-6)


def test_the_last_frame_of_a_set_without_actions_has_a_state_all_the_same():
    reader = with_state(ActionColumns("state"), source=make_source())
    pseudo = open_robot(ActionColumns("state", pseudo=True), state=[ActionColumns("state")])
    assert torch.equal(pseudo.states(0, 5, 1), reader.states(0, 5, 1))


def test_states_belong_to_the_fingerprint_and_nothing_else_changes():
    plain = open_robot()
    assert (plain.state_size, plain.states(0, 4, 9).shape) == (0, (2, 0))
    others = {with_state().fingerprint, with_state(ActionColumns("state", channels="0:2")).fingerprint}
    assert len(others | {plain.fingerprint}) == 3
    assert torch.equal(with_state().actions(0), plain.actions(0))


def test_state_columns_that_do_not_fit():
    with pytest.raises(DataError, match=r"memory:toy: column must be .* got 'sate'. Did you mean 'state'\?"):
        with_state(ActionColumns("sate"))
    for piece, asked in (
        (ActionColumns("state", pseudo=True), "pseudo"),
        (ActionColumns("action", representation="delta_step", reference="state"), "delta_step"),
    ):
        with pytest.raises(SettingError, match=rf"memory:toy: state must be taken as it is stored, got {asked} of"):
            with_state(piece)
    with pytest.raises(DataError, match=r"frame must lie in \[0, 4\) in episode 2 of memory:toy, got 4"):
        with_state().states(2, 4, 1)
