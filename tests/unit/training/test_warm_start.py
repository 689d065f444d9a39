import pytest
import torch

from vla_kit.actions import QuantileStats
from vla_kit.errors import CheckpointError
from vla_kit.training.vla_module import VLAModule
from vla_kit.training.warm_start import WarmStart, load_weights


def stats(size, high=1.0):
    return QuantileStats(q01=-torch.ones(size), q99=torch.full((size,), high))


@pytest.fixture
def checkpoint(parts, tmp_path):
    """A stage before, with other weights, other words and the robot arm."""
    torch.manual_seed(1)
    before = VLAModule(**parts(corpus=("words of the stage before",)))
    for entry in before.parameters():
        torch.nn.init.normal_(entry)
    before.add_statistics("arm", stats(2))
    torch.save({"state_dict": before.state_dict()}, tmp_path / "before.ckpt")
    return before, tmp_path / "before.ckpt"


def test_weights_and_words_are_those_of_the_stage_before(module, checkpoint):
    before, path = checkpoint
    WarmStart(str(path)).setup(None, module, "fit")
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), before.parameters(), strict=True))
    text = "words of the stage before"
    assert module.backbone.tokenizer.encode(text).ids == before.backbone.tokenizer.encode(text).ids
    assert module.normalizer.fingerprints == before.normalizer.fingerprints


def test_nothing_is_loaded_for_other_verbs_or_without_a_path(module, checkpoint):
    kept = [entry.clone() for entry in module.parameters()]
    WarmStart(str(checkpoint[1])).setup(None, module, "validate")
    WarmStart().setup(None, module, "fit")
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), kept, strict=True))


def test_robots_of_both_stages_are_kept(module, checkpoint):
    module.add_statistics("arm", stats(2))
    module.add_statistics("crane", stats(3))
    load_weights(module, checkpoint[1])
    assert set(module.normalizer.embodiments) == {"arm", "crane"}


def test_other_statistics_of_a_robot_are_refused_by_name(module, checkpoint):
    module.add_statistics("arm", stats(2, high=5.0))
    with pytest.raises(CheckpointError, match="'arm'"):
        load_weights(module, checkpoint[1])


def test_another_shape_is_refused_by_key_and_nothing_is_loaded(parts, checkpoint):
    module = VLAModule(**parts(width=32))
    kept = [entry.clone() for entry in module.parameters()]
    with pytest.raises(CheckpointError, match=r"of another shape: head\.\S+ \(.*\) instead of \(.*\)"):
        load_weights(module, checkpoint[1])
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), kept, strict=True))


def test_missing_and_unknown_keys_are_named(module, checkpoint, tmp_path):
    state = module.state_dict()
    state["head.extra"] = state.pop("head.action_in.0.weight")
    torch.save({"state_dict": state}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=r"1 missing: head\.action_in\.0\.weight; 1 unknown: head\.extra"):
        load_weights(module, tmp_path / "other.ckpt")


@pytest.mark.parametrize("content", [None, {"weights": 1}, "text"])
def test_a_file_that_is_no_checkpoint_is_refused(module, tmp_path, content):
    path = tmp_path / "wrong.ckpt"
    if content == "text":
        path.write_text("nothing")
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match="checkpoint must"):
        load_weights(module, path)
