import importlib.util
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from vla_kit import cli
from vla_kit.cli import VLACLI, main
from vla_kit.embodiment import EmbodimentPrompter, preset
from vla_kit.envs import TASKS
from vla_kit.errors import CheckpointError
from vla_kit.evaluation import read_curve
from vla_kit.heads import DiTHead
from vla_kit.policy import Policy, PolicyObservation
from vla_kit.training.policy_checkpoint import load_policy
from vla_kit.training.vla_module import VLAModule

LAST = Path("checkpoints") / "last.ckpt"
QUICK = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--trainer.log_every_n_steps=1"]
QUICK += ["--checkpoint.every_n_train_steps=2"]


def test_stages_follow_each_other_and_the_result_acts(stacked, tmp_path):
    """T2A, SFT from its weights, resume, reload with weights alone, act."""
    t2a, sft = tmp_path / "t2a", tmp_path / "sft"
    VLACLI([*stacked("fit", "stage1_t2a.yaml"), *QUICK, f"--trainer.default_root_dir={t2a}"])
    assert {path.name for path in t2a.iterdir()} == {"checkpoints", "logs", "status.json"}

    warm = f"--warm_start.checkpoint={t2a / LAST}"
    first = VLACLI([*stacked("fit", "stage3_sft.yaml"), *QUICK, f"--trainer.default_root_dir={sft}", warm])
    assert first.trainer.global_step == 2
    again = VLACLI(
        [
            *stacked("fit", "stage3_sft.yaml"),
            *QUICK,
            "--trainer.max_steps=4",
            f"--trainer.default_root_dir={sft}",
            warm,
            f"--ckpt_path={sft / LAST}",
        ]
    )
    assert again.trainer.global_step == 4
    assert [step for step, _ in read_curve(sft, "train/loss")] == [0, 1, 2, 3]

    content = torch.load(sft / LAST, weights_only=True)
    assert content["global_step"] == 4
    assert content["hyper_parameters"]["head"]["class_path"] == "vla_kit.heads.AnchoredHead"
    restored = VLAModule.load_from_checkpoint(sft / LAST, weights_only=True, map_location="cpu")
    assert all(torch.equal(a, b) for a, b in zip(restored.parameters(), again.model.parameters(), strict=True))
    assert set(restored.normalizer.embodiments) == {"metaworld_sawyer", "aloha_transfer"}
    picture = torch.zeros(3, 96, 96, dtype=torch.uint8)
    seen = [
        PolicyObservation(embodiment=name, instruction="open the drawer", views={"cam_high": picture})
        for name in ("aloha_transfer", "metaworld_sawyer")
    ]
    assert [chunk.shape for chunk in Policy.from_module(restored).act(seen)] == [(16, 14), (16, 4)]


def test_the_end_of_a_run_is_saved_whenever_it_comes(stacked, tmp_path):
    arguments = [*stacked("fit", "stage1_t2a.yaml"), "--trainer.max_steps=3", "--trainer.val_check_interval=2"]
    VLACLI([*arguments, "--checkpoint.every_n_train_steps=2", f"--trainer.default_root_dir={tmp_path}"])
    assert torch.load(tmp_path / LAST, weights_only=True)["global_step"] == 3
    assert len(list(tmp_path.rglob("*.ckpt"))) == 1


def test_the_saved_configuration_runs_again(stacked, tmp_path):
    VLACLI([*stacked("fit", "stage1_t2a.yaml"), *QUICK, f"--trainer.default_root_dir={tmp_path}"])
    saved = tmp_path / "logs" / "version_0" / "config.yaml"
    again = VLACLI(["fit", f"--config={saved}", f"--trainer.default_root_dir={tmp_path / 'again'}"])
    assert again.trainer.global_step == 2


def test_average_weights_start_from_the_stage_before(stacked, tmp_path):
    VLACLI([*stacked("fit", "stage1_t2a.yaml"), *QUICK, f"--trainer.default_root_dir={tmp_path / 'a'}"])
    command = VLACLI(
        [
            *stacked("fit", "stage3_sft.yaml"),
            *QUICK,
            f"--trainer.default_root_dir={tmp_path / 'b'}",
            f"--warm_start.checkpoint={tmp_path / 'a' / LAST}",
            "--trainer.callbacks+=lightning.pytorch.callbacks.EMAWeightAveraging",
            "--trainer.callbacks.use_buffers=false",
            "--model.head_learning_rate=0",
            "--model.backbone_learning_rate=0",
            "--model.weight_decay=0",
        ]
    )
    before = torch.load(tmp_path / "a" / LAST, weights_only=True)["state_dict"]
    for name, parameter in command.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name])


def test_a_checkpoint_of_another_size_is_refused(stacked, tmp_path):
    VLACLI([*stacked("fit", "stage1_t2a.yaml"), *QUICK, f"--trainer.default_root_dir={tmp_path}"])
    wider = [*stacked("fit", "stage3_sft.yaml"), *QUICK, "--model.head.init_args.head.init_args.width=64"]
    with pytest.raises(CheckpointError, match=r"of another shape: head\..*settings of the stage before"):
        VLACLI([*wider, f"--warm_start.checkpoint={tmp_path / LAST}"])
    with pytest.raises(CheckpointError, match=r"of another shape: head\..*settings that it was trained with"):
        VLACLI([*wider, f"--ckpt_path={tmp_path / LAST}"])
    content = torch.load(tmp_path / LAST, weights_only=True)
    content["hyper_parameters"]["head"]["init_args"]["head"]["init_args"]["width"] = 64
    torch.save(content, tmp_path / "edited.ckpt")
    with pytest.raises(CheckpointError, match=r"of another shape: head\."):
        main(["evaluate", f"--checkpoint={tmp_path / 'edited.ckpt'}", "--tasks=[metaworld/reach]", "--output=out"])


def test_validates_a_checkpoint(stacked, tmp_path):
    VLACLI([*stacked("fit", "stage3_sft.yaml"), *QUICK, f"--trainer.default_root_dir={tmp_path}"])
    command = VLACLI([*stacked("validate", "stage3_sft.yaml"), f"--ckpt_path={tmp_path / LAST}"])
    assert {"val/loss", "val/error/aloha_transfer/left_gripper"} <= set(command.trainer.callback_metrics)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("--model.learning_rate=1", "learning_rate"),
        ("--model.head.init_args.head.init_args.layers=3", "layers"),
        ("--data.init_args.batchsize=3", "batchsize"),
        ("--trainer.max_step=3", "max_step"),
        ("--model.flow_loss.init_args.time_sampler.init_args.gamma=3", "gamma"),
    ],
)
def test_unknown_keys_are_refused_by_name(wrong, named, stacked, capsys):
    with pytest.raises(SystemExit):
        VLACLI([*stacked("fit", "stage3_sft.yaml"), wrong])
    assert named in capsys.readouterr().err


def test_an_unknown_key_in_a_file_is_refused_by_name(stacked, tmp_path, capsys):
    (tmp_path / "wrong.yaml").write_text("model:\n  head_learning_rte: 1.0e-3\n")
    with pytest.raises(SystemExit):
        VLACLI([*stacked("fit", "stage3_sft.yaml"), f"--config={tmp_path / 'wrong.yaml'}"])
    assert "head_learning_rte" in capsys.readouterr().err


def test_the_head_takes_the_width_of_the_backbone(stacked):
    inner = "--model.head.init_args.head.init_args.context_width=64"
    arguments = [*stacked("fit", "stage3_sft.yaml"), "--model.backbone.init_args.hidden=64", inner]
    command = VLACLI([*arguments, "--trainer.fast_dev_run=true"])
    assert command.model.head.context_width == 64


def test_the_papers_size_parses(demo_folder, monkeypatch):
    class OnlyParse(VLACLI):
        def instantiate_classes(self):
            raise StopIteration(self.config["fit"]["model"])

    configs = Path(__file__).parents[2] / "examples" / "qwen_vla" / "configs"
    files = [configs / name for name in ("base.yaml", "data/demo.yaml", "stage3_sft.yaml", "size/full.yaml")]
    monkeypatch.setattr("sys.argv", ["vla-kit"])
    with pytest.raises(StopIteration) as stopped:
        OnlyParse(["fit", *(f"--config={file}" for file in files)])
    parsed = stopped.value.args[0]
    assert parsed.backbone.class_path == "vla_kit.backbones.qwen_vl.QwenVLBackbone.from_pretrained"
    with torch.device("meta"):
        head = DiTHead(**parsed.head.init_args.as_dict())
    assert sum(head.parameter_table().values()) == pytest.approx(1.15e9, rel=0.005)


def test_tiny_vocabulary_knows_the_sentences_of_the_demo(stacked):
    command = VLACLI([*stacked("fit", "stage3_sft.yaml"), "--trainer.fast_dev_run=true"])
    tokenizer = command.model.backbone.tokenizer
    prompter = EmbodimentPrompter([preset("metaworld_sawyer"), preset("aloha_transfer")])
    for task in TASKS.values():
        if task.embodiment not in prompter.names:
            continue  # navigation has words of its own, in size/tiny_navigation.yaml
        for sentence in task.sentences:
            prompt = prompter(task.embodiment, sentence)
            assert len(tokenizer.encode(prompt).ids) <= 80, prompt


def test_further_verbs_are_a_table_of_functions(monkeypatch, capsys):
    monkeypatch.setitem(cli.VERBS, "greet", f"{__name__}:_greet")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    main(["greet", "--name", "robot"])
    assert capsys.readouterr().out == "hello robot\n"


def test_a_refusal_is_one_line_and_not_a_traceback(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["vla-kit", "data", "stats", "nowhere"])
    with pytest.raises(SystemExit) as ended:
        cli.console()
    assert str(ended.value).startswith("vla-kit: root must be a folder, a file or a hub id, got nowhere")


def test_data_without_a_verb_names_the_verbs():
    with pytest.raises(SystemExit, match="vla-kit data stats"):
        main(["data"])


def _greet(name: str) -> None:
    print(f"hello {name}")  # noqa: T201


def test_evaluates_a_checkpoint(stacked, tmp_path, monkeypatch):
    if importlib.util.find_spec("metaworld") is None:  # importing it here would choose the renderer
        pytest.skip("metaworld is not installed")
    VLACLI([*stacked("fit", "stage3_sft.yaml"), *QUICK, f"--trainer.default_root_dir={tmp_path}"])
    arguments = ["--checkpoint", str(tmp_path / LAST), "--tasks", "[metaworld/reach]"]
    arguments += ["--output", str(tmp_path / "out"), "--episodes=1", "--baseline_episodes=1", "--replan_every=16"]
    arguments += ["--workers=1"]
    main(["evaluate", *arguments])
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["tasks"][0]["episodes"] == 1
    assert summary["tasks"][0]["expert"] == 1.0
    assert "data:video/mp4" in (tmp_path / "out" / "report.html").read_text()


def test_a_checkpoint_becomes_a_folder_that_acts_alike(stacked, tmp_path):
    arguments = [*stacked("fit", "stage3_sft.yaml", "projection/per_embodiment.yaml"), *QUICK]
    VLACLI([*arguments, f"--trainer.default_root_dir={tmp_path}"])
    folder = tmp_path / "policy"
    main(["policy", "save", "--checkpoint", str(tmp_path / LAST), "--output", str(folder), "--temperature=0.5"])
    policies = [load_policy(source, temperature=0.5) for source in (tmp_path / LAST, folder)]
    assert load_policy(folder).temperature == 0.5
    picture = torch.randint(0, 256, (3, 96, 96), dtype=torch.uint8)
    seen = PolicyObservation(embodiment="aloha_transfer", instruction="open it", views={"cam_high": picture})
    first, second = (one.act([seen], generator=torch.Generator().manual_seed(0))[0] for one in policies)
    assert np.array_equal(first, second)
    with pytest.raises(SystemExit, match=r"vla-kit policy must be one of .*vla-kit policy save"):
        main(["policy"])


def test_evaluates_in_an_environment_of_your_own(stacked, tmp_path, monkeypatch):
    pytest.importorskip("gymnasium")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "unit" / "envs"))
    VLACLI([*stacked("fit", "stage3_sft.yaml"), *QUICK, f"--trainer.default_root_dir={tmp_path}"])
    settings = {
        "checkpoint": str(tmp_path / LAST),
        "output": str(tmp_path / "out"),
        "episodes": 2,
        "baseline_episodes": 1,
        "workers": 1,
        "envs": [
            {
                "class_path": "vla_kit.envs.gymnasium_env.GymnasiumEnv",
                "init_args": {
                    "id": "toy_gymnasium:toy/Dot-v0",
                    "embodiment": "metaworld_sawyer",
                    "views": {"cam_high": "observation.images.top"},
                    "rate_hz": 20,
                    "sentences": ["open the drawer"],
                    "settings": {"channels": 4},
                },
            }
        ],
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(settings))
    main(["evaluate", "--config", str(tmp_path / "own.yaml")])
    (row,) = json.loads((tmp_path / "out" / "summary.json").read_text())["tasks"]
    assert (row["name"], row["episodes"], row["errors"], row["expert"]) == ("toy/Dot-v0", 2, 0, None)
    assert row["random"] is not None


def test_the_example_script_starts_the_same_command_line(monkeypatch, capsys):
    script = Path(__file__).parents[2] / "examples" / "qwen_vla" / "main.py"
    monkeypatch.setattr("sys.argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    assert "validate" in capsys.readouterr().out
