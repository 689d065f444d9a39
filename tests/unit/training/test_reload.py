"""Checkpoints reload without pickles: with the parts given again, or built from class paths."""

import pytest
import torch
from lightning.pytorch import Trainer

from vla_kit.training.demonstrations import DemonstrationDataModule
from vla_kit.training.vla_module import VLAModule


def train_briefly(module, data, folder):
    trainer = Trainer(
        accelerator="cpu",
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(folder / "model.ckpt")
    return folder / "model.ckpt"


def test_a_module_built_in_python_keeps_plain_settings_and_takes_its_parts_again(module, parts, make_set, tmp_path):
    path = train_briefly(module, DemonstrationDataModule(sets=[make_set("arm")], batch_size=4), tmp_path)
    recorded = torch.load(path, weights_only=True)["hyper_parameters"]
    assert recorded["head_learning_rate"] == 1e-2
    assert not {"backbone", "head", "prompter", "normalizer", "flow_loss", "loss", "solver"} & set(recorded)

    other = parts(corpus=("entirely different words",))
    restored = VLAModule.load_from_checkpoint(path, weights_only=True, map_location="cpu", **other)
    assert restored.learning_rates == {"backbone": 1e-3, "head": 1e-2}
    assert restored.normalizer.fingerprints == module.normalizer.fingerprints
    text = "push the block"
    assert restored.backbone.tokenizer.encode(text).ids == module.backbone.tokenizer.encode(text).ids
    mine, theirs = module.state_dict(), restored.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine if isinstance(mine[key], torch.Tensor))


def test_a_missing_part_is_named(module, parts, make_set, tmp_path):
    path = train_briefly(module, DemonstrationDataModule(sets=[make_set("arm")], batch_size=4), tmp_path)
    some = {name: part for name, part in parts().items() if name != "head"}
    with pytest.raises(TypeError, match="head"):
        VLAModule.load_from_checkpoint(path, weights_only=True, **some)
