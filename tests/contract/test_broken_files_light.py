"""Broken files of models, policies, programs and caches are refused with the name of the file and what to do."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from contract_cases.backbones import paligemma, qwen, shared_qwen
from contract_cases.export import inputs, onnx_file, torch_file
from contract_cases.policy import policy
from safetensors.torch import load_file, save_file

from vla_kit.backbones import _tensor_files
from vla_kit.backbones.image_text import ImageTextBackbone
from vla_kit.backbones.qwen_vl import QwenVLBackbone
from vla_kit.backbones.text_cache import CachedTextBackbone
from vla_kit.backbones.vision_cache import cache_vision
from vla_kit.errors import CheckpointError, DataError, StatisticsError, VLAKitError
from vla_kit.export.programs import open_onnx, open_torch
from vla_kit.policy import Policy
from vla_kit.protocols import Observation

FAMILIES = {"qwen": (shared_qwen, QwenVLBackbone), "paligemma": (paligemma, ImageTextBackbone)}
CONFIGURATION = {
    "qwen": ["config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"],
    "paligemma": ["config.json", "processor_config.json", "tokenizer.json", "tokenizer_config.json"],
}
DAMAGE: dict[str, Callable[[Path], Any]] = {
    "empty": lambda file: file.write_bytes(b""),
    "garbage": lambda file: file.write_bytes(b"\x80\x81garbage\x00" * 20),
    "half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
}
pytestmark = pytest.mark.usefixtures("shape_hook_off")  # a wrong shape reaches our own check, as it does for users
damaged = pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole folders of models, which tests copy."""
    root = tmp_path_factory.mktemp("models")
    for name, (make, _) in FAMILIES.items():
        make().save_pretrained(root / name)
    return root


@pytest.fixture(scope="module")
def whole_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policies") / "policy"
    policy().save(folder)
    return folder


@pytest.fixture
def saved(whole_policy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole_policy, tmp_path / "policy"))


def refused(folder: Path) -> Any:
    return pytest.raises(CheckpointError, match=rf"source must .*{re.escape(str(folder))}.*\. Copy the folder again")


@damaged
@pytest.mark.parametrize(
    ("family", "name"), [(family, name) for family, names in CONFIGURATION.items() for name in names]
)
def test_a_broken_configuration(family: str, name: str, damage: Callable[[Path], Any], models: Path, tmp_path: Path):
    folder = Path(shutil.copytree(models / family, tmp_path / "model"))
    damage(folder / name)
    with refused(folder):
        FAMILIES[family][1].from_config(folder, view_tags=[])


@pytest.mark.parametrize(
    ("family", "name"),
    [(family, name) for family, names in CONFIGURATION.items() for name in names if name != "tokenizer_config.json"],
)
def test_a_configuration_that_is_not_there(family: str, name: str, models: Path, tmp_path: Path):
    folder = Path(shutil.copytree(models / family, tmp_path / "model"))
    (folder / name).unlink()
    with refused(folder):
        FAMILIES[family][1].from_config(folder, view_tags=[])


@pytest.mark.parametrize("family", FAMILIES)
def test_an_empty_folder(family: str, tmp_path: Path):
    for build in (FAMILIES[family][1].from_config, FAMILIES[family][1].from_pretrained):
        with refused(tmp_path):
            build(tmp_path, view_tags=[])


def change_weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def written(file: Path) -> None:
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file, metadata={"format": "pt"})

    return written


def of_another_shape(tensors: dict[str, torch.Tensor]) -> None:
    name = min(tensors)
    tensors[name] = tensors[name][None].repeat(2, *[1] * tensors[name].ndim)


@pytest.mark.parametrize(
    "damage",
    [
        *DAMAGE.values(),
        Path.unlink,
        change_weights(lambda tensors: tensors.pop(min(tensors))),
        change_weights(of_another_shape),
    ],
    ids=[*DAMAGE, "missing", "without a tensor", "of another shape"],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_broken_weights(family: str, damage: Callable[[Path], Any], models: Path, tmp_path: Path):
    folder = Path(shutil.copytree(models / family, tmp_path / "model"))
    damage(folder / "model.safetensors")
    with refused(folder):
        FAMILIES[family][1].from_pretrained(folder, view_tags=[])


@damaged
@pytest.mark.parametrize(
    "name",
    [
        "policy.yaml",
        "embodiments.yaml",
        "statistics.json",
        "model.safetensors",
        "eigengrasps.safetensors",
        "backbone/config.json",
        "backbone/tokenizer.json",
        "backbone/preprocessor_config.json",
    ],
)
def test_a_broken_policy(name: str, damage: Callable[[Path], Any], saved: Path):
    damage(saved / name)
    with pytest.raises(VLAKitError, match=r"got .*\. (Take|Copy|Load|Fit) "):
        Policy.load(saved)


def edit(file: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(file.read_text())
    change(content["actions"]["arm"])
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda entry: entry.pop("q01"), "entry must hold q01 and q99"),
        (
            lambda entry: entry.update(q01=[0.0, float("nan")]),
            r"q01 must be finite, got NaN or infinity in channels \[1\]",
        ),
        (lambda entry: entry.update(q01=[[0.0, 0.0]]), r"q01 must have one axis \(size,\)"),
        (lambda entry: entry.update(q01=[0.0]), r"must have the shape of q01 \(1,\)"),
        (lambda entry: entry.update(q99=[-1.0, -1.0]), r"q99 must be at least q01, got less in channels \[0, 1\]"),
    ],
    ids=["missing key", "nan", "one axis more", "another size", "exchanged"],
)
def test_broken_statistics_of_a_policy(change: Callable[[Any], Any], text: str, saved: Path):
    edit(saved / "statistics.json", change)
    with pytest.raises(StatisticsError, match=f"statistics.json must hold the statistics of 'arm'.*{text}"):
        Policy.load(saved)


def test_a_device_that_is_not_there(saved: Path):
    with pytest.raises(VLAKitError, match=r"device must be one that torch finds here, got 'gpu': .*\. Use 'cpu'"):
        Policy.load(saved, device="gpu")


@damaged
@pytest.mark.parametrize(("make", "read"), [(torch_file, open_torch), (onnx_file, open_onnx)], ids=["torch", "onnx"])
def test_a_broken_program(
    make: Callable[[Path], Path],
    read: Callable[[Path], Callable[[Mapping[str, torch.Tensor]], torch.Tensor]],
    damage: Callable[[Path], Any],
    tmp_path: Path,
):
    file = make(tmp_path)
    assert torch.equal(read(file)(inputs()), 2 * inputs()["noise"])
    damage(file)
    with pytest.raises(
        DataError, match=rf"path must be a whole .*{re.escape(str(file))}: .*\. Export the policy again"
    ):
        read(file)


@pytest.mark.parametrize(("make", "name"), [(torch_file, "program.pt2"), (onnx_file, "program.onnx")])
def test_a_program_is_whole_or_not_there(
    make: Callable[[Path], Path], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full_disk(*arguments: Any) -> None:
        next(part for part in arguments if isinstance(part, Path)).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch.export, "save", full_disk)
    monkeypatch.setattr(torch.onnx.ONNXProgram, "save", full_disk)
    (tmp_path / name).write_bytes(b"before")
    with pytest.raises(OSError, match="No space left"):
        make(tmp_path)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(name, b"before")]


def text_cache(folder: Path) -> Callable[[], Any]:
    cached = CachedTextBackbone(qwen().requires_grad_(False).eval(), folder=folder)
    return lambda: cached(cached.prepare([Observation(prompt="push", views={})]))


def vision_cache(folder: Path) -> Callable[[], Any]:
    cached = cache_vision(qwen().requires_grad_(False).eval(), folder=folder)
    view = torch.zeros(3, 32, 32, dtype=torch.uint8)
    return lambda: cached(cached.prepare([Observation(prompt="push", views={"ego": view})]))


@pytest.mark.parametrize(
    "damage",
    [*DAMAGE.values(), lambda file: save_file({"other": torch.zeros(1)}, file)],
    ids=[*DAMAGE, "without its tensor"],
)
@pytest.mark.parametrize("make", [text_cache, vision_cache])
def test_a_broken_file_of_a_cache(
    make: Callable[[Path], Callable[[], Any]], damage: Callable[[Path], Any], tmp_path: Path
):
    ask = make(tmp_path)
    ask()
    (file,) = tmp_path.rglob("*.safetensors")
    damage(file)
    with pytest.raises(DataError, match=rf"file must .*{re.escape(str(file))}.*\. Delete it"):
        ask()


def test_a_cache_keeps_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full_disk(_tensors: Mapping[str, torch.Tensor], file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(_tensor_files, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        _tensor_files.write_tensors(tmp_path / "file.safetensors", {"hidden": torch.zeros(1)})
    assert list(tmp_path.iterdir()) == []
