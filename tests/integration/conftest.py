"""Recorded data of the demo's shape, for the tests of the command line."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from vla_kit.data.conversations import caption_record, driving_record, question_record, write_records
from vla_kit.data.eigengrasp_file import save_eigengrasps
from vla_kit.data.hand_grasps import fit_eigengrasps
from vla_kit.data.lerobot_writer import LeRobotWriter
from vla_kit.data.readers.vitra import open_vitra
from vla_kit.embodiment import PRESETS

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "data"))
from hand_files import write_vitra

EXAMPLE = Path(__file__).parents[2] / "examples" / "qwen_vla"


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny data set wherever a file in configs/data expects one."""
    folder = tmp_path_factory.mktemp("demo")
    rng = np.random.default_rng(0)
    written: set[str] = set()
    for file in sorted((EXAMPLE / "configs" / "data").glob("*.yaml")):
        config = yaml.safe_load(file.read_text())
        robots = _robots(config)
        for one in config["data"]["init_args"].get("conversations", ()):
            _write_conversations(folder / one["path"], rng)
        for one in config["data"]["init_args"].get("sets", ()):
            if one["root"] in written:
                continue
            written.add(one["root"])
            if "basis" in one.get("options", {}):
                _write_hands(folder, one)
                continue
            rate_hz, size, state_size = robots[one["embodiment"]]
            cameras, columns = one.get("views", {}).values(), one.get("state", ())
            features = {"action": {"dtype": "float32", "shape": (size,)}}
            features |= {key: {"dtype": "image", "shape": (96, 96, 3)} for key in cameras}
            features |= {key: {"dtype": "float32", "shape": (state_size,)} for key in columns}
            with LeRobotWriter(folder / one["root"], rate_hz=rate_hz, features=features) as writer:
                for length in (4, 5):
                    writer.add_episode(
                        rng.normal(size=(length, size)).astype(np.float32),
                        {key: rng.integers(0, 256, (length, 96, 96, 3), dtype=np.uint8) for key in cameras},
                        instruction="open the drawer",
                        columns={key: rng.normal(size=(length, state_size)).astype(np.float32) for key in columns},
                    )
    return folder


def _write_hands(folder: Path, one: dict[str, Any]) -> None:
    """Episodes of human hands and the eigengrasps that a configuration expects."""
    for seed in (0, 1):
        write_vitra(folder / one["root"] / f"{seed}.npz", steps=12, seed=seed)
    save_eigengrasps(fit_eigengrasps([open_vitra(folder / one["root"])]), folder / one["options"]["basis"])


def _write_conversations(path: Path, rng: np.random.Generator) -> None:
    """A caption, a question about two cameras and one without a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(path.parent / "noise.png")
    write_records(
        [
            caption_record("noise.png", "coloured noise"),
            driving_record({"cam_high": "noise.png", "ego": "noise.png"}, "Is it safe?", "No, nothing can be seen."),
            question_record([], "What is 2 + 2?", "4"),
        ],
        path,
    )


def _robots(config: dict[str, Any]) -> dict[str, tuple[float, int, int]]:
    """Name -> rate and sizes of action and state, of the presets and of the robots that a configuration describes."""
    robots = {
        name: (spec.rate_hz, spec.action_space.size, spec.state_space.size if spec.state_space else 0)
        for name, spec in PRESETS.items()
    }
    for spec in config.get("model", {}).get("prompter", {}).get("init_args", {}).get("specs", []):
        described = spec["init_args"]
        if "action_space" in described:
            size = sum(group.get("count", 1) for group in described["action_space"]["groups"])
            robots[described["name"]] = (described["rate_hz"], size, 0)
    return robots


@pytest.fixture
def stacked(demo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Arguments that stack configurations: base, data, the named ones, the tiny size; run beside the data.

    A stage begins from scratch unless a later argument names a checkpoint.
    """
    monkeypatch.chdir(demo_folder)
    monkeypatch.setattr("sys.argv", ["vla-kit"])

    def arguments(verb: str, *files: Path | str, small: bool = True) -> list[str]:
        stack = [EXAMPLE / "configs" / name for name in ("base.yaml", "data/demo.yaml")]
        tiny = EXAMPLE / "configs" / "size" / "tiny.yaml"
        if any(str(file).endswith("_rl.yaml") for file in files):  # its rollouts know nothing of batches
            stack += [tiny, *(EXAMPLE / "configs" / name for name in ("stage4_rl.yaml", "size/tiny_rl.yaml"))]
            sizes = [f"--data.init_args.{name}=2" for name in ("episodes", "environments")] + ["--trainer.max_epochs=2"]
        else:
            stack += [*(EXAMPLE / "configs" / file for file in files), tiny]
            sizes = ["--data.batch_size=2"]
        shrink = [
            *sizes,
            "--model.backbone.init_args.hidden=32",
            "--model.backbone.init_args.vision_layers=1",
            "--model.backbone.init_args.text_layers=1",
            "--model.head.init_args.head.init_args.context_width=32",
            "--model.head.init_args.head.init_args.width=32",
            "--model.head.init_args.head.init_args.depth=1",
            "--model.head.init_args.head.init_args.mlp_hidden=32",
            "--trainer.enable_progress_bar=false",
            "--trainer.enable_model_summary=false",
        ]
        scratch = "--warm_start.checkpoint=null"
        return [verb, *(f"--config={file}" for file in stack), scratch, *(shrink if small else [])]

    return arguments
