"""BridgeData V2 as its authors published it, against the statistics that Open X-Embodiment publishes."""

import json
from pathlib import Path

import numpy as np
import pytest

from vla_kit.data.readers.rlds import RLDSSource

CAMERAS = [f"observation/image_{number}" for number in range(4)]
SENTENCES = {
    "put carrot on plate",
    "put cup from counter or drying rack into sink",
    "turn lever vertical to front",
    "flip pot upright which is in sink",
}


@pytest.fixture(scope="module")
def bridge(shared_data: Path) -> RLDSSource:
    return RLDSSource(shared_data / "bridge_rlds_debug")


@pytest.fixture(scope="module")
def published(shared_data: Path) -> dict[str, np.ndarray]:
    text = (shared_data / "stats" / "oxe_dataset_statistics_vgmact.json").read_text()
    return {key: np.array(values) for key, values in json.loads(text)["bridge_orig"]["action"].items()}


def test_description(bridge):
    assert bridge.name == "bridge_rlds_debug"
    assert bridge.lengths.tolist() == [10] * 25
    assert bridge.columns["action"].size == bridge.columns["observation/state"].size == 7
    assert sorted(bridge.cameras) == CAMERAS
    assert {(camera.height, camera.width) for camera in bridge.cameras.values()} == {(64, 64)}
    assert {bridge.instruction_at(index, 9) for index in range(25)} == SENTENCES
    assert bridge.column(3, "is_first")[:, 0].tolist() == [True] + [False] * 9


def test_frames(bridge):
    """The first camera shows something that moves; the last is blank."""
    frames = bridge.images(0, CAMERAS[0], range(10)).float()
    assert frames.shape == (10, 3, 64, 64)
    assert frames.std() > 30
    assert (frames[9] - frames[0]).abs().mean() > 1
    assert all(bridge.images(index, CAMERAS[3], [0, 9]).float().std() < 2 for index in range(25))


def test_actions_agree_with_the_published_statistics(bridge, published):
    actions = np.concatenate([bridge.column(index, "action") for index in range(25)])
    continuous = actions[:, :6]
    assert np.isfinite(actions).all()
    assert (continuous >= published["min"][:6]).all()
    assert (continuous <= published["max"][:6]).all()
    outside = (continuous < published["q01"][:6]) | (continuous > published["q99"][:6])
    assert outside.mean() == pytest.approx(0.013, abs=0.002)
    assert (np.abs(continuous.mean(axis=0) - published["mean"][:6]) < published["std"][:6]).all()


def test_the_gripper_is_not_to_be_normalised(bridge, published):
    """It is closed or open, 0 or 1, but for one step in thirty on the way."""
    grippers = np.concatenate([bridge.column(index, "action")[:, 6] for index in range(25)])
    assert published["mask"].tolist() == [True] * 6 + [False]
    assert (published["q01"][6], published["q99"][6]) == (0, 1)
    assert grippers.min() == 0
    assert grippers.max() == 1
    assert 0.95 < np.isin(grippers, (0, 1)).mean() < 1
