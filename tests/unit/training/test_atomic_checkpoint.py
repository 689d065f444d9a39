import pytest
import torch

from vla_kit.training.atomic_checkpoint import AtomicCheckpointIO


def test_replaces_a_checkpoint_and_leaves_nothing_else(tmp_path):
    place = tmp_path / "new" / "last.ckpt"
    for step in (1, 2):
        AtomicCheckpointIO().save_checkpoint({"weights": torch.full((3,), step)}, str(place))
    assert torch.load(place)["weights"].tolist() == [2, 2, 2]
    assert [path.name for path in place.parent.iterdir()] == ["last.ckpt"]
    assert AtomicCheckpointIO().load_checkpoint(place)["weights"].tolist() == [2, 2, 2]


def test_the_old_checkpoint_survives_a_broken_write(tmp_path, monkeypatch):
    place = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, place)

    def stop(content, file):
        file.write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            AtomicCheckpointIO().save_checkpoint({"step": 2}, place)
    assert torch.load(place) == {"step": 1}
    AtomicCheckpointIO().save_checkpoint({"step": 3}, place)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
