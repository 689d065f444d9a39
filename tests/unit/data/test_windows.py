import numpy as np
import pytest
import torch

from vla_kit.data import ChunkDataset, EpisodeInfo, EpisodeReader, TrajectoryDataset
from vla_kit.embodiment import History
from vla_kit.errors import DataError, SettingError


class CountingReader:
    """Action of step t in episode e is (10 * e + t, 0); the image of frame t is full of t."""

    name, embodiment, location, action_size, rate_hz = "counting", "toy", "memory:counting", 2, 10.0
    fingerprint, chunk_relative, num_episodes, state_size = "0", False, 3, 1
    lengths = num_steps = np.array([3, 1, 5])

    def episode(self, index):
        return EpisodeInfo(index=index, length=int(self.lengths[index]), instructions=(f"task {index}",))

    def instruction_at(self, index, frame):
        return f"task {index} at {frame}"

    def actions(self, index):
        return self.chunk(index, 0, int(self.num_steps[index]))

    def chunk(self, index, frame, horizon):
        steps = torch.arange(frame, min(frame + horizon, int(self.num_steps[index])), dtype=torch.float32)
        return torch.stack([10.0 * index + steps, torch.zeros_like(steps)], dim=1)

    def states(self, index, frame, steps):
        return 100.0 * index + torch.arange(frame, frame + steps, dtype=torch.float32)[:, None]

    def frames(self, index, indices):
        return {"front": torch.stack([torch.full((3, 2, 2), frame, dtype=torch.uint8) for frame in indices])}


class PseudoReader(CountingReader):
    """Its last frames have no action."""

    num_steps = np.array([2, 0, 4])


def test_the_double_is_a_reader():
    assert isinstance(CountingReader(), EpisodeReader)


def test_one_item_per_frame_with_the_actions_that_follow():
    dataset = ChunkDataset(CountingReader(), horizon=2)
    assert len(dataset) == 9
    sample = dataset[5]
    assert (sample.episode, sample.frame, sample.instruction, sample.dataset) == (2, 1, "task 2 at 1", "counting")
    assert sample.actions[:, 0].tolist() == [21.0, 22.0]
    assert sample.valid.tolist() == [True, True]
    assert int(sample.views["front"].unique()) == 1
    assert sample.views["front"].shape == (3, 2, 2)
    assert sample.state.tolist() == [201.0]


def test_past_the_end_is_zero_and_invalid_never_repeated():
    dataset = ChunkDataset(CountingReader(), horizon=4)
    sample = dataset[2]
    assert sample.frame == 2
    assert sample.actions[:, 0].tolist() == [2.0, 0.0, 0.0, 0.0]
    assert sample.valid.tolist() == [True, False, False, False]
    assert dataset[3].valid.tolist() == [True, False, False, False]


def test_stride_and_choice_of_episodes():
    dataset = ChunkDataset(CountingReader(), horizon=1, stride=2, episodes=[2, 0])
    assert [(item.episode, item.frame) for item in map(dataset.__getitem__, range(len(dataset)))] == [
        (2, 0),
        (2, 2),
        (2, 4),
        (0, 0),
        (0, 2),
    ]


def test_works_in_a_data_loader_with_workers():
    dataset = ChunkDataset(CountingReader(), horizon=2)
    loader = torch.utils.data.DataLoader(dataset, batch_size=4, num_workers=1, collate_fn=list)
    assert [sample.frame for batch in loader for sample in batch] == [0, 1, 2, 0, 0, 1, 2, 3, 4]


def test_whole_trajectories_without_images():
    dataset = TrajectoryDataset(CountingReader(), horizon=5)
    assert len(dataset) == 3
    sample = dataset[0]
    assert sample.actions[:, 0].tolist() == [0.0, 1.0, 2.0, 0.0, 0.0]
    assert sample.valid.tolist() == [True, True, True, False, False]
    assert (sample.views, sample.instruction) == ({}, "task 0 at 0")
    assert dataset[2].valid.all()


def test_whole_trajectories_with_the_first_frame():
    sample = TrajectoryDataset(CountingReader(), horizon=5, with_views=True, episodes=[1])[0]
    assert (sample.episode, int(sample.views["front"].max())) == (1, 0)


def test_a_longer_trajectory_is_refused_unless_left_out():
    with pytest.raises(
        DataError, match=r"horizon must be at least .* got 4 and episode 2 of counting with 5 steps. Raise"
    ):
        TrajectoryDataset(CountingReader(), horizon=4)
    assert len(TrajectoryDataset(CountingReader(), horizon=4, episodes=[0, 1])) == 2


@pytest.mark.parametrize("make", [ChunkDataset, TrajectoryDataset])
def test_wrong_settings(make):
    with pytest.raises(SettingError, match="horizon must be at least 1, got 0"):
        make(CountingReader(), horizon=0)
    with pytest.raises(SettingError, match="episodes must name at least one episode"):
        make(CountingReader(), horizon=9, episodes=[])
    with pytest.raises(DataError, match=r"episodes must lie in \[0, 3\) of counting, got \[3, -1\]"):
        make(CountingReader(), horizon=9, episodes=[0, 3, -1])


def test_wrong_stride():
    with pytest.raises(SettingError, match="stride must be at least 1, got 0"):
        ChunkDataset(CountingReader(), horizon=2, stride=0)


def test_items_from_the_end_and_past_it():
    dataset = ChunkDataset(CountingReader(), horizon=1)
    assert (dataset[-1].episode, dataset[-1].frame) == (2, 4)
    with pytest.raises(IndexError, match=r"item must lie in \[0, 9\), got 9"):
        dataset[9]
    assert len(list(dataset)) == 9


def test_frames_without_an_action_are_no_items():
    dataset = ChunkDataset(PseudoReader(), horizon=3)
    assert [(sample.episode, sample.frame) for sample in dataset] == [(0, 0), (0, 1), (2, 0), (2, 1), (2, 2), (2, 3)]
    assert [sample.valid.sum().item() for sample in dataset] == [2, 1, 3, 3, 2, 1]
    assert [sample.episode for sample in TrajectoryDataset(PseudoReader(), horizon=4)] == [0, 2]
    with pytest.raises(SettingError, match="episodes must name one with an action, got none in memory:counting"):
        ChunkDataset(PseudoReader(), horizon=3, episodes=[1])


def test_strides_leave_no_frame_over_that_is_not_theirs():
    dataset = ChunkDataset(PseudoReader(), horizon=1, stride=3)
    assert [(sample.episode, sample.frame) for sample in dataset] == [(0, 0), (2, 0), (2, 3)]


@pytest.mark.parametrize(("seconds", "steps"), [(0.1, 1), (0.34, 3), (0.36, 4), (2, 20)])
def test_seconds_are_steps_at_the_sets_own_rate(seconds, steps):
    assert ChunkDataset(CountingReader(), seconds=seconds).horizon == steps


@pytest.mark.parametrize("make", [ChunkDataset, TrajectoryDataset])
def test_wrong_durations(make):
    for both in ({}, {"horizon": 3, "seconds": 0.3}):
        with pytest.raises(SettingError, match="horizon or seconds must be given, and not both"):
            make(CountingReader(), **both)
    with pytest.raises(SettingError, match=r"seconds must last at least one step at 10.0 Hz .* got 0.01. .* 0.1"):
        make(CountingReader(), seconds=0.01)

    class Timeless(CountingReader):
        rate_hz = None

    with pytest.raises(SettingError, match="seconds must be left out where the rate is unknown, as in memory:counting"):
        make(Timeless(), seconds=1.0)


class StatelessReader(CountingReader):
    state_size = 0


def test_states_are_those_of_the_frame_and_of_the_beginning_of_a_trajectory():
    chunks = ChunkDataset(CountingReader(), horizon=2, stride=2)
    assert [sample.state.item() for sample in chunks.__getitems__(range(len(chunks)))] == [0, 2, 100, 200, 202, 204]
    whole = TrajectoryDataset(CountingReader(), horizon=5)
    assert [whole[item].state.item() for item in range(3)] == [0, 100, 200]


def test_without_state_columns_samples_have_no_state():
    assert ChunkDataset(StatelessReader(), horizon=2)[0].state is None
    assert TrajectoryDataset(StatelessReader(), horizon=5)[0].state is None


def shades(sample):
    return sample.views["front"][:, 0, 0, 0].tolist()


def test_a_history_ends_with_the_frame_of_the_item_and_is_never_filled_up():
    dataset = ChunkDataset(CountingReader(), horizon=1, history=History(frames=3, rate_hz=5))  # every second frame
    assert [shades(sample) for sample in dataset] == [[0], [1], [0, 2], [0], [0], [1], [0, 2], [1, 3], [0, 2, 4]]
    assert {sample.frame_rate_hz for sample in dataset} == {5}
    assert dataset[8].views["front"].shape == (3, 3, 2, 2)
    assert [shades(sample) for sample in dataset.__getitems__([8, 2, 4])] == [[0, 2, 4], [0, 2], [0]]


def test_a_history_of_one_frame_is_a_history():
    sample = ChunkDataset(CountingReader(), horizon=1, history=History(frames=1, rate_hz=1))[1]
    assert sample.views["front"].shape == (1, 3, 2, 2)
    assert ChunkDataset(CountingReader(), horizon=1)[1].frame_rate_hz is None


def test_the_frames_of_a_batch_are_read_once():
    calls = []

    class Asked(CountingReader):
        def frames(self, index, indices):
            calls.append((index, list(indices)))
            return super().frames(index, indices)

    ChunkDataset(Asked(), horizon=1, history=History(frames=3, rate_hz=10)).__getitems__([8, 7, 0, 2])
    assert calls == [(0, [0, 1, 2]), (2, [1, 2, 3, 4])]


def test_a_history_needs_a_rate_that_repeats_no_frame():
    with pytest.raises(SettingError, match=r"rate_hz must be at most the recorded 10\.0 Hz, got 20 Hz"):
        ChunkDataset(CountingReader(), horizon=1, history=History(frames=2, rate_hz=20))
    reader = CountingReader()
    reader.rate_hz = None
    with pytest.raises(SettingError, match="history must be left out where the rate is unknown"):
        ChunkDataset(reader, horizon=1, history=History(frames=2, rate_hz=2))


def test_readers_without_views_have_none_in_a_history():
    reader = CountingReader()
    reader.frames = lambda index, indices: {}
    assert ChunkDataset(reader, horizon=1, history=History(frames=2, rate_hz=2))[5].views == {}
