"""Recorded data of the demo's shape, for the tests of the command line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from vla_kit.data.lerobot_writer import LeRobotWriter
from vla_kit.embodiment import preset

EXAMPLE = Path(__file__).parents[2] / "examples" / "qwen_vla"


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny data set wherever a file in configs/data expects one."""
    folder = tmp_path_factory.mktemp("demo")
    rng = np.random.default_rng(0)
    written: set[str] = set()
    for file in sorted((EXAMPLE / "configs" / "data").glob("*.yaml")):
        for one in yaml.safe_load(file.read_text())["data"]["init_args"]["sets"]:
            if one["root"] in written:
                continue
            written.add(one["root"])
            spec = preset(one["embodiment"])
            camera = {"dtype": "image", "shape": (96, 96, 3)}
            features = {"action": {"dtype": "float32", "shape": (spec.action_space.size,)}}
            features |= dict.fromkeys(one["views"].values(), camera)
            columns = one.get("state", ())
            features |= {key: {"dtype": "float32", "shape": (spec.state_space.size,)} for key in columns}
            with LeRobotWriter(folder / one["root"], rate_hz=spec.rate_hz, features=features) as writer:
                for length in (4, 5):
                    writer.add_episode(
                        rng.normal(size=(length, spec.action_space.size)).astype(np.float32),
                        {
                            key: rng.integers(0, 256, (length, 96, 96, 3), dtype=np.uint8)
                            for key in one["views"].values()
                        },
                        instruction="open the drawer",
                        columns={
                            key: rng.normal(size=(length, spec.state_space.size)).astype(np.float32) for key in columns
                        },
                    )
    return folder


@pytest.fixture
def stacked(demo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Arguments that stack configurations: base, data, the named ones, the tiny size; run beside the data."""
    monkeypatch.chdir(demo_folder)
    monkeypatch.setattr("sys.argv", ["vla-kit"])

    def arguments(verb: str, *files: Path | str, small: bool = True) -> list[str]:
        stack = [EXAMPLE / "configs" / name for name in ("base.yaml", "data/demo.yaml")]
        stack += [EXAMPLE / "configs" / file for file in files]
        stack += [EXAMPLE / "configs" / "size" / "tiny.yaml"]
        shrink = [
            "--data.batch_size=2",
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
        return [verb, *(f"--config={file}" for file in stack), *(shrink if small else [])]

    return arguments
