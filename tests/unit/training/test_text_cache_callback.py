"""Training text to action behind a frozen backbone that reads each sentence once."""

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from vla_kit.errors import SettingError
from vla_kit.training.step_seed import StepSeed
from vla_kit.training.text_cache import TextCache
from vla_kit.training.text_to_action import TextToActionDataModule
from vla_kit.training.vla_module import VLAModule

EVERY = {"every_n_train_steps": 2, "save_top_k": -1, "enable_version_counter": False}
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory")


@pytest.fixture
def fit(parts, make_set, tmp_path):
    sets = [make_set("arm", words=("push", "push", "lift the block", "push")), make_set("crane", size=3)]

    def run(*callbacks, freeze=("backbone",), ckpt=None):
        torch.manual_seed(0)
        module = VLAModule(**parts(), freeze=freeze, head_learning_rate=1e-2)
        read = []
        prepare = module.backbone.prepare
        module.backbone.prepare = lambda seen: (read.extend(one.prompt for one in seen), prepare(seen))[1]
        trainer = Trainer(
            accelerator="cpu",
            max_steps=6,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[StepSeed(), *callbacks, ModelCheckpoint(tmp_path, filename="{step}", **EVERY)],
        )
        trainer.fit(module, TextToActionDataModule(sets=sets, batch_size=4), ckpt_path=ckpt)
        return module, read

    return run


def test_the_head_learns_the_same_and_the_backbone_reads_each_prompt_once(fit, tmp_path):
    plain, seen = fit()
    cached, read = fit(TextCache(str(tmp_path / "cache")))
    assert len(read) == len(set(read)) == len(set(seen)) < len(seen)
    assert type(cached.backbone) is type(plain.backbone)  # the cache went with the run
    for (name, ours), (_, theirs) in zip(cached.named_parameters(), plain.named_parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4, msg=name)
    _, read = fit(TextCache(str(tmp_path / "cache")))
    assert not read  # another run finds all of them


def test_a_run_goes_on_bit_for_bit_with_the_folder_that_it_began_with(fit, tmp_path):
    whole, _ = fit(TextCache(str(tmp_path / "cache")))
    resumed, read = fit(TextCache(str(tmp_path / "cache")), ckpt=tmp_path / "step=2.ckpt")
    assert not read
    for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_backbone_that_learns_is_refused_and_left_as_it_was(fit, tmp_path):
    with pytest.raises(SettingError, match="backbone must be frozen where its states are cached"):
        fit(TextCache(str(tmp_path)), freeze=())


def test_nothing_happens_outside_training(module, tmp_path):
    before = module.backbone
    TextCache(str(tmp_path)).setup(None, module, "validate")
    assert module.backbone is before
    callback = TextCache(str(tmp_path))
    callback.setup(None, module, "fit")
    names = list(module.state_dict())
    callback.on_exception(None, module, RuntimeError())
    assert module.backbone is before
    assert list(module.state_dict()) == names
