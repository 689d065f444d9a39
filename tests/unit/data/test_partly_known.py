import numpy as np
import pytest
import torch

from vla_kit.actions import MaskedActions
from vla_kit.data import ActionColumns, ChunkDataset, Collate, MemoryEpisode, MemorySource, RobotReader, Sample
from vla_kit.data.partly_known import known_of
from vla_kit.errors import DataError, DtypeError, ShapeError

SEEN = np.array([1.0, 1, 0, 1, 1, 0])


def reader(*, values=None, **settings):
    values = np.arange(6.0)[:, None] if values is None else values
    columns = {"place": values, "other": np.full((6, 1), 10.0), "seen": SEEN[:, None], "wide": np.zeros((6, 2))}
    return RobotReader(
        MemorySource([MemoryEpisode(columns=columns)]),
        embodiment="hand",
        actions=[ActionColumns("place", seen="seen", **settings)],
    )


@pytest.mark.parametrize(
    ("settings", "frame", "known"),
    [
        ({}, 0, [1, 1, 0, 1, 1, 0]),
        ({"pseudo": True}, 0, [1, 0, 1, 1, 0]),
        ({"pseudo": True, "representation": "delta_chunk"}, 0, [1, 0, 1, 1, 0]),
        ({"pseudo": True, "representation": "delta_chunk"}, 2, [0, 0, 0]),  # nothing to start from
        ({"pseudo": True, "representation": "delta_chunk", "reference": "other"}, 2, [1, 1, 0]),
        ({"pseudo": True, "representation": "delta_step"}, 0, [1, 0, 0, 1, 0]),  # target and the one before
        ({"pseudo": True, "representation": "delta_step"}, 2, [0, 1, 0]),
    ],
)
def test_an_action_is_known_where_its_target_and_its_start_are(settings, frame, known):
    found = reader(**settings)
    assert found.known(0, frame, 6)[:, 0].int().tolist() == known
    chunk = found.chunk(0, frame, 6)[:, 0]
    assert len(chunk) == len(known)
    assert (chunk[~torch.tensor(known, dtype=torch.bool)] == 0).all()


def test_rotations_of_unknown_frames_are_not_judged():
    """A frame without a hand holds anything, also what is no quaternion."""
    values = np.tile([0.0, 0.0, 0.0, 1.0], (6, 1))
    values[[2, 5]] = 7.0
    assert reader(values=values, rotation="quaternion_xyzw").chunk(0, 0, 6).shape == (6, 4)
    values[3] = 7.0
    with pytest.raises(DataError, match=r"must hold a rotation as quaternion_xyzw .* in frame 3"):
        reader(values=values, rotation="quaternion_xyzw").chunk(0, 0, 6)


def test_who_knows_all_says_nothing():
    columns = {"action": np.zeros((3, 2))}
    whole = RobotReader(MemorySource([MemoryEpisode(columns=columns)]), embodiment="arm")
    assert known_of(whole, 0, 0, 3) is None
    assert ChunkDataset(whole, horizon=2)[0].known is None
    assert not whole.partly_known
    assert reader().fingerprint != reader(pseudo=True).fingerprint


def test_seen_is_one_number():
    columns = {"place": np.zeros((2, 1)), "wide": np.zeros((2, 2))}
    source = MemorySource([MemoryEpisode(columns=columns)])
    for key, text in (
        ("wide", "seen must be a column of one number, got 'wide' of 2"),
        ("sen", "seen must be a column"),
    ):
        with pytest.raises(DataError, match=text):
            RobotReader(source, embodiment="hand", actions=[ActionColumns("place", seen=key)])


def test_padding_of_a_batch_is_exact_whatever_stands_there():
    chunk = ChunkDataset(reader(), horizon=8)[0]
    assert chunk.known.shape == (8, 1)
    spoilt = torch.where(chunk.real, chunk.actions, torch.nan)
    fields = {name: getattr(chunk, name) for name in Sample.__dataclass_fields__} | {"actions": spoilt}
    collate = Collate(lambda seen: {}, prompter=lambda *words: "x", channels=3)
    batches = [collate([one]).actions for one in (chunk, Sample(**fields))]
    assert torch.equal(batches[0].values, batches[1].values)
    assert batches[0].mask[0, :, 0].tolist() == [True, True, False, True, True, False, False, False]
    assert batches[0].cut([1])[0].flatten().tolist() == [0, 1, 0, 3, 4]


def test_cut_keeps_places_of_unknown_channels_and_steps():
    """The left of two hands is out of sight: the right one stays in its own channels."""
    known = torch.tensor([[False, True], [False, False], [False, True]])
    actions = MaskedActions.pad([torch.tensor([[9.0, 1.0], [9.0, 9.0], [9.0, 3.0]])], channels=4, valid=[known])
    assert actions.cut()[0].tolist() == [[0, 1], [0, 0], [0, 3]]
    left = MaskedActions.pad([torch.ones(2, 2)], channels=4, valid=[torch.tensor([[True, False]] * 2)])
    assert left.cut([2])[0].tolist() == [[1, 0], [1, 0]]


def test_known_has_the_shape_of_actions():
    fields = {"embodiment": "a", "instruction": "", "views": {}, "dataset": "d", "episode": 0, "frame": 0}
    fields |= {"actions": torch.zeros(2, 3), "valid": torch.ones(2, dtype=torch.bool)}
    with pytest.raises(ShapeError, match=r"known must have the shape of actions \(2, 3\), got \(2, 2\)"):
        Sample(**fields, known=torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(DtypeError, match=r"known must be bool, got torch\.float32"):
        Sample(**fields, known=torch.ones(2, 3))
