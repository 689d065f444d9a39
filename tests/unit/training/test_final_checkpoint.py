import pytest
import torch
from lightning.pytorch import Callback, Trainer

from vla_kit.training.final_checkpoint import FinalCheckpoint
from vla_kit.training.text_to_action import TextToActionDataModule


class Spoil(Callback):
    """Changes the weights when training ends, as averaging does."""

    def on_train_end(self, trainer, pl_module):
        with torch.no_grad():
            for entry in pl_module.parameters():
                entry.zero_()


@pytest.mark.parametrize(("every", "written"), [(2, True), (3, False), (0, True), (None, True)])
def test_the_end_is_saved_unless_it_was_and_before_the_weights_change(every, written, module, make_set, tmp_path):
    path = tmp_path / "folder" / "end.ckpt"
    trainer = Trainer(
        accelerator="cpu",
        max_steps=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[FinalCheckpoint(str(path), every_n_train_steps=every), Spoil()],
    )
    trainer.fit(module, TextToActionDataModule(sets=[make_set("arm")], batch_size=2))
    assert path.exists() == written
    if written:
        content = torch.load(path, weights_only=True)
        assert content["global_step"] == 3
        assert content["state_dict"]["head.action_in.0.weight"].any()
        assert content["optimizer_states"]
