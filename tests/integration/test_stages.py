"""The paper's stages one after another, each from the weights of the one before, on recorded demonstrations."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from vla_kit.backbones.tiny import tiny_qwen3_5, tiny_qwen3_vl
from vla_kit.cli import VLACLI
from vla_kit.errors import CheckpointError
from vla_kit.training.vla_module import VLAModule

QUICK = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.log_every_n_steps=1"]
QUICK += ["--checkpoint.every_n_train_steps=2", "--trainer.limit_val_batches=1"]
STILL = ["--model.head_learning_rate=0", "--model.backbone_learning_rate=0", "--model.weight_decay=0"]
LAST = Path("checkpoints") / "last.ckpt"
STAGES = ["stage1_t2a.yaml", "stage2_cpt.yaml", "stage3_sft_multi.yaml", "stage3_sft_single.yaml"]
CONFIGS = Path(__file__).parents[2] / "examples" / "qwen_vla" / "configs"


def run(stacked, folder, *files, before=None, more=()):
    warm = [] if before is None else [f"--warm_start.checkpoint={before / LAST}"]
    return VLACLI([*stacked("fit", *files), *QUICK, f"--trainer.default_root_dir={folder}", *warm, *more])


def assert_starts_from(module, folder):
    """Nothing learned, so the weights are those of the stage before."""
    start = torch.load(folder / LAST, weights_only=True)["state_dict"]
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter.detach(), start[name]), name


@pytest.mark.slow
def test_text_to_action_then_pretraining_then_both_fine_tunings(stacked, tmp_path):
    before = None
    for stage in STAGES:
        folder = tmp_path / Path(stage).stem
        command = run(stacked, folder, stage, before=before, more=STILL if before else ())
        assert command.trainer.global_step == 2
        if before is not None:
            assert_starts_from(command.model, before)
        before = folder
    assert command.model.prompter.names == ("aloha_transfer",)


@pytest.mark.slow
@pytest.mark.parametrize("family", [tiny_qwen3_5, tiny_qwen3_vl])
def test_the_recipe_on_a_checkpoint_in_the_format_of_transformers(family, stacked, tmp_path):
    """What a user does with Qwen/Qwen3.5-4B, on a small folder that save_pretrained wrote."""
    source = tmp_path / "pretrained"
    family(corpus=["open the drawer"], view_tags=[], image_size=96, patch_size=16, hidden=32).save_pretrained(source)
    backbone = {
        "class_path": "vla_kit.backbones.qwen_vl.QwenVLBackbone.from_pretrained",
        "init_args": {"source": str(source), "view_tags": ["cam_high"], "image_size": 96, "dtype": "float32"},
    }
    sizes = {"context_width": 32, "channels": 64, "width": 32, "depth": 1, "num_heads": 2, "mlp_hidden": 32}
    head = {"class_path": "vla_kit.heads.DiTHead", "init_args": {**sizes, "attention": "joint"}}
    rates = {"backbone_learning_rate": 1e-3, "head_learning_rate": 1e-3}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({"model": {"backbone": backbone, "head": head, **rates}}))
    quiet = ["--data.batch_size=2", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    frozen = ["stage1_t2a.yaml", "stage1_t2a_cached.yaml"]
    before = None
    for stage in STAGES:
        folder = tmp_path / Path(stage).stem
        files = ["base.yaml", "data/demo.yaml", *(frozen if before is None else [stage])]
        stack = [f"--config={CONFIGS / file}" for file in files] + [f"--config={tmp_path / 'small.yaml'}"]
        still = STILL if before else ()
        stacked("fit")  # beside the data
        command = VLACLI(
            [
                "fit",
                *stack,
                *QUICK,
                *quiet,
                *still,
                f"--warm_start.checkpoint={'null' if before is None else before / LAST}",
                f"--trainer.default_root_dir={folder}",
            ]
        )
        assert command.trainer.global_step == 2
        learning = any(entry.requires_grad for entry in command.model.backbone.parameters())
        assert learning == (before is not None)
        if before is not None:
            assert_starts_from(command.model, before)
        before = folder
    restored = VLAModule.load_from_checkpoint(before / LAST, weights_only=True, map_location="cpu")
    assert type(restored.backbone.model) is type(command.model.backbone.model)
    assert all(torch.equal(a, b) for a, b in zip(restored.parameters(), command.model.parameters(), strict=True))


@pytest.mark.slow
def test_the_frozen_variant_trains_the_head_alone(stacked, tmp_path):
    command = run(stacked, tmp_path, "stage1_t2a.yaml", "stage1_t2a_chunks.yaml", "stage1_t2a_frozen.yaml")
    assert not any(parameter.requires_grad for parameter in command.model.backbone.parameters())
    assert [group["part"] for group in command.trainer.optimizers[0].param_groups] == ["head", "head"]


@pytest.mark.slow
def test_the_cached_variant_ends_where_the_frozen_one_does(stacked, tmp_path):
    exact = ["--trainer.precision=32-true", "--model.head_warmup_steps=0", "--trainer.limit_val_batches=0"]
    frozen = run(stacked, tmp_path / "frozen", "stage1_t2a.yaml", "stage1_t2a_frozen.yaml", more=exact)
    cached = run(stacked, tmp_path / "cached", "stage1_t2a.yaml", "stage1_t2a_cached.yaml", more=exact)
    for (name, ours), (_, theirs) in zip(cached.model.named_parameters(), frozen.model.named_parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4, msg=name)
    assert Path("cache/text").is_dir()
    theirs, ours = (torch.load(tmp_path / name / LAST, weights_only=True) for name in ("frozen", "cached"))
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    assert ours["hyper_parameters"] == theirs["hyper_parameters"]
    run(stacked, tmp_path / "next", "stage2_cpt.yaml", before=tmp_path / "cached")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("files", "horizons", "pictures"),
    [
        (["stage1_t2a.yaml"], {4, 5}, False),
        (["stage1_t2a.yaml", "stage1_t2a_chunks.yaml"], {16}, False),
        (["stage1_t2a.yaml", "stage1_t2a_pictures.yaml"], {16}, True),
    ],
)
def test_variants_of_text_to_action_differ_in_length_and_pictures(files, horizons, pictures, stacked, tmp_path):
    command = run(stacked, tmp_path, *files)
    batch = next(iter(command.datamodule.train_dataloader()))
    assert batch.actions.values.shape[1] in horizons
    assert ("pixel_values" in batch.backbone_inputs) == pictures
    assert type(command.model.flow_loss.time_sampler).__name__ == "SigmoidNormalTime"


@pytest.mark.slow
def test_the_corpus_of_text_to_action_is_a_fifth_synthetic(stacked, tmp_path):
    more = ["--data.batch_size=10", "--trainer.max_steps=6"]
    command = run(stacked, tmp_path, "stage1_t2a.yaml", "data/t2a_mixture.yaml", more=more)
    robots = {"panda", "ur3", "ur5", "ur10", "xarm7", "z1"}
    expected = {"metaworld": 0.4, "aloha": 0.4} | dict.fromkeys(robots, 0.2 / 6)
    assert command.datamodule.train_dataloader().mixture.shares == pytest.approx(expected)
    status = json.loads((tmp_path / "status.json").read_text())
    assert set(status["seen"]) == robots | {"metaworld_sawyer", "aloha_transfer"}
    assert status["seen_families"]["synthetic"]["samples"] == pytest.approx(12, abs=2)  # of 60
    assert status["seen_families"]["real"]["samples"] + status["seen_families"]["synthetic"]["samples"] == 60


@pytest.mark.slow
def test_multi_task_fine_tuning_balances_robots_and_sentences(stacked, tmp_path):
    command = run(stacked, tmp_path, "stage3_sft_multi.yaml")
    shares = command.datamodule.train_dataloader().mixture.shares
    assert shares == {"metaworld: open the drawer": 0.5, "aloha: open the drawer": 0.5}
    spec = command.model.prompter.spec
    assert [spec(name).chunk_size for name in ("metaworld_sawyer", "aloha_transfer", "navigation")] == [16, 16, 8]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["stage3_sft_multi.yaml", "stage3_sft_single.yaml"])
def test_fine_tuning_clips_weighs_and_decays_as_the_paper_says(stage, stacked, tmp_path):
    rates = {"backbone": 1e-3, "head": 2e-3}
    more = [f"--model.{part}_learning_rate={rate}" for part, rate in rates.items()]
    more += ["--model.backbone_warmup_steps=2", "--model.head_warmup_steps=1", "--trainer.max_steps=5"]
    command = run(stacked, tmp_path, stage, more=more)
    assert (command.model.loss.action_weight, command.model.loss.language_weight) == (1.0, 0.1)
    assert command.trainer.gradient_clip_val == 1.0
    assert all(entry.requires_grad for entry in command.model.parameters())
    assert type(command.model.flow_loss.time_sampler).__name__ == "BetaTime"
    log = next((tmp_path / "logs").rglob("metrics.csv")).read_text().splitlines()
    rows = [dict(zip(log[0].split(","), line.split(","), strict=True)) for line in log[1:]]
    seen = {part: [float(row[f"lr-AdamW/{part}"]) for row in rows if row[f"lr-AdamW/{part}"]] for part in rates}
    # warm-ups of two steps and of one, then cos(0), cos(pi/3), ... and cos(0), cos(pi/4), ... down to 0
    assert seen["backbone"] == pytest.approx([0.5e-3, 1e-3, 1e-3, 0.75e-3, 0.25e-3], rel=1e-5)
    assert seen["head"] == pytest.approx([2e-3, 2e-3, 1.70711e-3, 1e-3, 0.292893e-3], rel=1e-5)


@pytest.mark.parametrize(
    ("stage", "predecessor"),
    [
        ("stage2_cpt.yaml", "t2a"),
        ("stage3_sft.yaml", "t2a"),
        ("stage3_sft_multi.yaml", "cpt"),
        ("stage3_sft_single.yaml", "cpt"),
    ],
)
def test_a_stage_without_its_predecessor_says_so(stage, predecessor, stacked, tmp_path):
    asked = [argument for argument in stacked("fit", stage) if argument != "--warm_start.checkpoint=null"]
    refused = f"checkpoint must be a file, got runs/{predecessor}/checkpoints/last.ckpt. Run the stage before first"
    with pytest.raises(CheckpointError, match=rf"{refused}.*from scratch with --warm_start\.checkpoint null"):
        VLACLI([*asked, *QUICK, f"--trainer.default_root_dir={tmp_path}"])
    with pytest.raises(CheckpointError, match=r"checkpoint must be a file, got .*never"):
        run(stacked, tmp_path / "now", stage, before=tmp_path / "never")


@pytest.mark.slow
def test_a_stage_goes_on_without_its_predecessor_and_keeps_its_robots(stacked, tmp_path):
    run(stacked, tmp_path / "cpt", "stage2_cpt.yaml")
    run(stacked, tmp_path / "single", "stage3_sft_single.yaml", before=tmp_path / "cpt")
    (tmp_path / "cpt" / LAST).unlink()
    resumed = ["--trainer.max_steps=4", f"--ckpt_path={tmp_path / 'single' / LAST}"]
    command = run(stacked, tmp_path / "single", "stage3_sft_single.yaml", before=tmp_path / "cpt", more=resumed)
    assert command.trainer.global_step == 4
    assert set(command.model.normalizer.embodiments) == {"aloha_transfer", "metaworld_sawyer"}


SHORT = "--model.backbone.init_args.context_length=16"
BLIND = "--model.backbone.init_args.view_tags=[]"
NO_CHUNK = {"class_path": "vla_kit.embodiment.presets.preset", "init_args": {"name": "aloha_transfer", "chunk_size": 0}}
NO_STEPS = "--model.prompter.init_args.specs=" + json.dumps([NO_CHUNK])


@pytest.mark.parametrize(
    ("stage", "wrong", "said"),
    [
        ("stage3_sft.yaml", BLIND, r"views must have tags of the vocabulary \[\], got 'cam_high'"),
        ("stage3_sft.yaml", SHORT, r"prompt and views must make 1 to 16 tokens, got \d+ in observation 0"),
        ("stage1_t2a.yaml", SHORT, r"prompt and views must make 1 to 16 tokens, got \d+ in observation 0"),
        ("stage3_sft.yaml", NO_STEPS, "chunk_size must be at least 1, got 0"),
        ("stage1_t2a.yaml", "--data.init_args.horizon=0", "horizon must be at least 1, got 0"),
        ("stage1_t2a.yaml", "--model.head.init_args.horizon=0", "horizon must be at least 1, got 0"),
    ],
)
def test_a_run_that_cannot_be_says_why(stage, wrong, said, stacked, tmp_path):
    with pytest.raises(ValueError, match=said):  # a SettingError, which the parser wraps where it builds the part
        run(stacked, tmp_path, stage, more=[wrong])
