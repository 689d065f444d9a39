import pickle
from dataclasses import FrozenInstanceError

import pytest
import torch

from vla_kit.data import Sample
from vla_kit.errors import DataError, DtypeError, ShapeError

GOOD = {
    "embodiment": "arm",
    "instruction": "push",
    "views": {"front": torch.zeros(3, 4, 5, dtype=torch.uint8)},
    "actions": torch.zeros(2, 3),
    "valid": torch.tensor([True, False]),
    "dataset": "demo",
    "episode": 1,
    "frame": 2,
}


def test_keeps_what_it_is_given_and_survives_pickling():
    sample = pickle.loads(pickle.dumps(Sample(**GOOD)))
    assert (sample.size, sample.num_steps, sample.episode, sample.frame) == (3, 2, 1, 2)
    with pytest.raises(FrozenInstanceError):
        sample.frame = 3


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"actions": torch.zeros(2)}, ShapeError, r"actions must have the shape \(step, size\), got \(2,\)"),
        ({"actions": torch.zeros(2, 3).int()}, DtypeError, "actions must be floating point, got torch.int32"),
        (
            {"valid": torch.ones(3).bool()},
            ShapeError,
            r"valid must have one entry per step of actions \(2,\), got \(3,\)",
        ),
        ({"valid": torch.ones(2)}, DtypeError, "valid must be bool, got torch.float32"),
        ({"views": {"front": torch.zeros(4, 5, 3).byte()}}, ShapeError, r"views\['front'\] .* got \(4, 5, 3\)"),
        ({"views": {"front": torch.zeros(0, 3, 4, 5).byte()}}, ShapeError, r"or \(frame, 3, .*got \(0, 3, 4, 5\)"),
        ({"views": {"front": torch.zeros(3, 4, 5)}}, DtypeError, r"views\['front'\] must be uint8"),
        ({"state": torch.zeros(1, 2)}, ShapeError, r"state must have the shape \(state_size,\), got \(1, 2\)"),
        ({"state": torch.zeros(2).int()}, DtypeError, "state must be floating point, got torch.int32"),
        (
            {"state": torch.tensor([0.5, torch.nan])},
            DataError,
            r"state must be finite, got \[0.5, nan\] in frame 2 of episode 1 of demo. Drop the episode",
        ),
        ({"state": torch.tensor([torch.inf])}, DataError, "state must be finite"),
        (
            {"actions": torch.tensor([[0.0, torch.nan], [0.0, 0.0]])},
            DataError,
            "actions must be finite where they are real, got NaN or infinity in frame 2 of episode 1 of demo",
        ),
        ({"state": torch.zeros(0)}, ShapeError, r"state must have the shape \(state_size,\), got \(0,\)"),
    ],
)
def test_wrong_arguments_are_named(change, error, text):
    with pytest.raises(error, match=text):
        Sample(**{**GOOD, **change})


def test_a_number_that_means_nothing_may_be_nan():
    actions = torch.tensor([[0.5, torch.nan], [torch.nan, torch.inf]])
    known = torch.tensor([[True, False], [True, True]])
    assert Sample(**{**GOOD, "actions": actions, "known": known}).actions.isnan().sum() == 2


def test_a_view_may_be_the_frames_of_a_history():
    frames = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    sample = Sample(**{**GOOD, "views": {"front": frames}, "frame_rate_hz": 2.0})
    assert (sample.views["front"].shape, sample.frame_rate_hz) == ((2, 3, 4, 5), 2.0)
