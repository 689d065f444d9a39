import numpy as np
import pytest
import torch
from hand_files import write_egodex, write_vitra
from sklearn.decomposition import PCA

from vla_kit.cli import main
from vla_kit.data import MemoryEpisode, MemorySource, hand_grasps
from vla_kit.data.eigengrasp_file import load_eigengrasps
from vla_kit.data.hand_grasps import finger_blocks, fit_eigengrasps
from vla_kit.errors import DataError, SettingError


def source_of(fingers, *, seen=None):
    """Poses of right hands, in episodes of 40 frames."""
    seen = np.ones(len(fingers)) if seen is None else seen
    episodes = []
    for first in range(0, len(fingers), 40):
        part = slice(first, first + 40)
        nobody = np.zeros((len(fingers[part]), 1))
        columns = {"left.fingers": np.full((len(nobody), 45), 9.0), "left.seen": nobody}
        columns |= {"right.fingers": fingers[part], "right.seen": seen[part, None]}
        episodes.append(MemoryEpisode(columns=columns))
    return MemorySource(episodes)


def correlated(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 12)) @ rng.normal(size=(12, 45)) / 8 + 0.01 * rng.normal(size=(count, 45)) + 0.1


def test_it_is_the_exact_pca_in_many_blocks(monkeypatch):
    monkeypatch.setattr(hand_grasps, "_BLOCK", 64)
    poses = correlated(700)
    basis = fit_eigengrasps([source_of(poses[:300]), source_of(poses[300:])])
    exact = PCA(n_components=10, svd_solver="full").fit(poses)
    assert np.abs(basis.mean.numpy() - exact.mean_).max() < 1e-6
    overlap = np.abs(np.sum(basis.directions.numpy() * exact.components_, axis=1))
    assert overlap.min() > 1 - 1e-6  # the same directions, one by one, up to sign
    weights = basis.encode(torch.from_numpy(poses))
    lost = poses - basis.decode(weights).numpy()
    expected = poses - exact.inverse_transform(exact.transform(poses))
    assert np.abs(lost - expected).max() < 1e-5
    assert (basis.directions.abs().argmax(1)[:, None] == basis.directions.argmax(1)[:, None]).all()


def test_memory_is_that_of_blocks(monkeypatch):
    monkeypatch.setattr(hand_grasps, "_BLOCK", 64)
    sizes = [len(block) for block in hand_grasps._merged(finger_blocks([source_of(correlated(700))]))]
    assert sum(sizes) == 700
    assert set(sizes[:-1]) == {64}
    assert 64 <= sizes[-1] < 2 * 64


def test_lost_hands_do_not_count():
    poses, seen = correlated(200), np.arange(200) % 3 > 0
    spoilt = np.where(seen[:, None], poses, 50.0)
    one, other = (
        fit_eigengrasps([source_of(spoilt, seen=seen.astype(float))]),
        fit_eigengrasps([source_of(poses[seen])]),
    )
    assert torch.allclose(one.directions, other.directions, atol=1e-5)
    assert torch.allclose(one.mean, other.mean, atol=1e-6)


def test_too_few_poses_are_refused():
    with pytest.raises(DataError, match=r"more poses of hands that were seen than directions \(10\), got 10"):
        fit_eigengrasps([source_of(correlated(10))])
    with pytest.raises(DataError, match="got 0"):
        fit_eigengrasps([source_of(correlated(10), seen=np.zeros(10))])
    with pytest.raises(SettingError, match=r"count must lie in \[1, 45\], got 46"):
        fit_eigengrasps([source_of(correlated(60))], count=46)


def test_the_verb_fits_over_formats(tmp_path):
    write_vitra(tmp_path / "vitra/a.npz", steps=12)
    write_egodex(tmp_path / "egodex/0.hdf5", steps=12)
    sets = f"[{tmp_path / 'vitra'}, {tmp_path / 'egodex'}]"
    main(["data", "eigengrasps", str(tmp_path / "basis.safetensors"), "--sets", sets])
    assert load_eigengrasps(tmp_path / "basis.safetensors").count == 10
