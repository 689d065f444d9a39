from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch import Trainer

from vla_kit.data.augment import RandomShift
from vla_kit.data.balanced_shares import BalancedShares
from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.data.lazy_parts import LazyParts
from vla_kit.embodiment import History
from vla_kit.errors import DataError, SettingError, StatisticsError
from vla_kit.training.demonstrations import DemonstrationDataModule
from vla_kit.training.text_to_action import TextToActionDataModule


def attach(data, module, **settings):
    """Set up as `Trainer.fit` does, without training."""
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, **settings
    )
    trainer.strategy._lightning_module = module
    data.trainer = trainer
    data.setup("fit")
    return data


@pytest.fixture
def shown(module, monkeypatch):
    """Observations of each batch, as the backbone gets them."""
    batches, prepare = [], module.backbone.prepare
    monkeypatch.setattr(module.backbone, "prepare", lambda seen: (batches.append(seen), prepare(seen))[1])
    return batches


def test_a_batch_mixes_robots_and_pads_them(module, make_set):
    data = attach(
        DemonstrationDataModule(
            sets=[make_set("arm"), make_set("crane", size=3, lengths=(20, 20))], batch_size=64, validation_share=0.25
        ),
        module,
    )
    batch = next(iter(data.train_dataloader()))
    counts = [batch.embodiments.count(name) for name in ("arm", "crane")]
    assert sum(counts) == len(batch)
    assert counts == [32, 32]  # equal shares, although the crane has more frames
    assert batch.actions.values.shape[1:] == (4, 4)  # chunk size of both robots, channels of the head
    assert "pixel_values" in batch.backbone_inputs
    for row, name in enumerate(batch.embodiments):
        assert batch.actions.mask[row].any(0).sum() == {"arm": 2, "crane": 3}[name]


def test_training_and_validation_share_no_episode(module, make_set):
    data = attach(DemonstrationDataModule(sets=[make_set("arm")], validation_share=0.5, validation_stride=1), module)
    train, validation = LazyParts(data._train), LazyParts(data._validation)
    assert {sample.episode for sample in train}.isdisjoint({sample.episode for sample in validation})


def test_a_stride_leaves_frames_out_of_training_alone(module, make_set):
    one = replace(make_set("arm", lengths=(5, 6, 7, 8)), stride=3)
    data = attach(DemonstrationDataModule(sets=[one], validation_share=0.25, validation_stride=1), module)
    assert {sample.frame for sample in LazyParts(data._train)} == {0, 3, 6}
    assert {sample.frame for sample in LazyParts(data._validation)} >= {0, 1, 2, 3, 4}


def test_the_module_gets_the_statistics_of_the_data(module, make_set):
    data = attach(DemonstrationDataModule(sets=[make_set("arm")]), module)
    assert module.normalizer.embodiments == ("arm",)
    assert torch.equal(module.normalizer.q01[0], data.statistics()["arm"].q01)


def test_other_statistics_than_those_of_the_checkpoint_are_refused_by_name(module, make_set):
    attach(DemonstrationDataModule(sets=[make_set("arm")]), module)
    first = module.normalizer.fingerprints["arm"]
    with pytest.raises(StatisticsError, match=rf"(?s)'arm'.*{first}"):
        attach(DemonstrationDataModule(sets=[make_set("arm-1", scale=2.0)]), module)


def test_an_epoch_is_the_run_where_the_trainer_counts_steps(module, make_set):
    one = make_set("arm")
    data = attach(DemonstrationDataModule(sets=[one], batch_size=4, validation_share=0), module, max_steps=100)
    assert len(data.train_dataloader()) == 100
    data = attach(DemonstrationDataModule(sets=[one], batch_size=4, validation_share=0), module, max_epochs=1)
    assert len(data.train_dataloader()) == 7  # 26 frames
    data = attach(DemonstrationDataModule(sets=[one], batch_size=4, samples_per_epoch=8), module, max_steps=100)
    assert len(data.train_dataloader()) == 2
    data = attach(DemonstrationDataModule(sets=[one], batch_size=4), module, max_steps=100, accumulate_grad_batches=3)
    assert len(data.train_dataloader()) == 300


def test_augmentation_changes_training_alone(module, make_set):
    data = attach(DemonstrationDataModule(sets=[make_set("arm")], augment=RandomShift(4)), module)
    assert data.train_dataloader().collate.augment is not None
    assert data.val_dataloader().collate_fn.augment is None


def test_no_validation_without_held_out_episodes(module, make_set):
    data = attach(DemonstrationDataModule(sets=[make_set("arm")], validation_share=0), module)
    assert data.val_dataloader() == []


def test_text_to_action_gives_whole_trajectories_and_their_length(module, make_set, shown):
    data = attach(TextToActionDataModule(sets=[make_set("arm")], batch_size=4, validation_share=0.25), module)
    batch = next(iter(data.train_dataloader()))
    assert "pixel_values" not in batch.backbone_inputs
    assert batch.actions.values.shape[1] == 8  # the longest trajectory
    assert set(batch.instructions) == {"push the block"}
    prompts = [seen.prompt for seen in shown[-1]]
    for text, length in zip(prompts, batch.actions.mask.any(2).sum(1).tolist(), strict=True):
        assert f"Please predict the next {length} control actions" in text
        assert text.endswith("push the block.")


def test_text_to_action_leaves_longer_trajectories_out(module, make_set):
    one = make_set("arm")
    data = attach(TextToActionDataModule(sets=[one], horizon=6, validation_share=0), module)
    assert [int(sample.valid.sum()) for sample in LazyParts(data._train)] == [5, 6]
    with pytest.raises(SettingError, match=r"horizon must be at least .* got 4 and a shortest of 5"):
        attach(TextToActionDataModule(sets=[one], horizon=4), module)


def test_tasks_can_be_drawn_equally_often(module, make_set):
    sets = [make_set("arm", words=("push", "pull", "push", "push")), make_set("crane", size=3, words=("push",) * 4)]
    data = attach(
        DemonstrationDataModule(
            sets=sets, shares=BalancedShares(["embodiment", "instruction"]), batch_size=64, validation_share=0
        ),
        module,
    )
    loader = data.train_dataloader()
    assert loader.mixture.shares == {"arm: push": 0.25, "arm: pull": 0.25, "crane: push": 0.5}
    batch = next(iter(loader))
    assert sum(text == "pull" for text in batch.instructions) == 16


def test_two_sets_of_one_name_are_refused_by_both_places(module, make_set):
    one = make_set("arm")
    data = attach(DemonstrationDataModule(sets=[one, replace(one, embodiment="arm", stride=2)]), module)
    with pytest.raises(SettingError, match=r"'arm' twice"):
        data.train_dataloader()


def test_a_set_that_does_not_fit_its_robot_is_refused_before_training(module, make_set):
    with pytest.raises(DataError, match=r"(?s)arm: actions must give the 2 channels .* got 3"):
        attach(DemonstrationDataModule(sets=[make_set("arm", size=3)]), module)


def test_sets_are_closed_again(module, make_set):
    data = attach(DemonstrationDataModule(sets=[make_set("arm"), make_set("crane", size=3)], open_sets=1), module)
    mixture = data.train_dataloader().mixture
    assert not mixture._items._open
    mixture.samples(range(8))
    assert len(mixture._items._open) == 1


def test_cached_frames_are_decoded_once(module, make_set, monkeypatch):
    opened = []
    original = DemonstrationSet.open

    def open_set(self, *, with_views=True, with_state=True):
        opened.append(self.cache_frames and with_views)
        return original(self, with_views=with_views, with_state=with_state)

    monkeypatch.setattr(DemonstrationSet, "open", open_set)
    data = attach(DemonstrationDataModule(sets=[replace(make_set("arm"), cache_frames=True)]), module)
    next(iter(data.train_dataloader()))
    next(iter(data.val_dataloader()))
    assert opened.count(True) == 1


def test_overfitting_to_a_batch_is_refused(module, make_set):
    data = attach(DemonstrationDataModule(sets=[make_set("arm")]), module, overfit_batches=1)
    with pytest.raises(SettingError, match=r"overfit_batches must be 0, got 1.*num_episodes"):
        data.train_dataloader()


@pytest.mark.parametrize("kind", [DemonstrationDataModule, TextToActionDataModule])
def test_refuses_settings(kind):
    with pytest.raises(SettingError, match="sets must hold at least one DemonstrationSet"):
        kind(sets=[])
    with pytest.raises(SettingError, match="batch_size must be at least 1, got 0"):
        kind(sets=[DemonstrationSet(root="x", embodiment="arm")], batch_size=0)
    with pytest.raises(SettingError, match="datamodule must be given to a Trainer"):
        kind(sets=[DemonstrationSet(root="x", embodiment="arm")]).setup("fit")


@pytest.mark.parametrize("kind", [DemonstrationDataModule, TextToActionDataModule])
def test_a_recorded_action_that_is_no_number_ends_the_run_before_training(kind, module, make_set):
    broken = make_set("arm")
    (path,) = (Path(broken.root) / "data").rglob("*.parquet")
    table = pq.read_table(path)
    actions = table["action"].to_pylist()
    actions[6] = [float("nan"), 0.0]  # the second frame of episode 1
    column = pa.array(actions, type=table.schema.field("action").type)
    pq.write_table(table.set_column(table.column_names.index("action"), "action", column), path)
    with pytest.raises(
        DataError, match=r"action must be finite, got nan in episode 1, frame 1, channel 0. Leave the epis"
    ):
        attach(kind(sets=[broken]), module)


def test_a_history_reaches_the_backbone_in_training_and_validation(module, make_set):
    one = replace(make_set("arm", lengths=(8, 8)), history=History(frames=3, rate_hz=5))
    settings = {"batch_size": 4, "validation_share": 0.5, "validation_stride": 1, "augment": RandomShift(2)}
    data = attach(DemonstrationDataModule(sets=[one], **settings), module, max_steps=2)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        frames = [len(batch.backbone_inputs["image_grid_thw"]) for batch in loader]
        assert max(frames) > 4  # more images than samples
    shown = [sample.views["cam"] for sample in LazyParts(data._validation)]
    assert [len(frames) for frames in shown] == [1, 1, 2, 2, 3, 3, 3, 3]
    batch = next(iter(data.val_dataloader()))
    assert module.backbone(batch.backbone_inputs).hidden.isfinite().all()
