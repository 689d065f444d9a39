"""Whole exports: what is written, what it is compared with, and who can run it."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_policies import ROBOT, observations, policy
from torch import nn

import vla_kit.export.write as write_module
from vla_kit.errors import ExportError, SettingError, ShapeError
from vla_kit.export.write import export_policy

pytestmark = pytest.mark.usefixtures("sizes_left_open")

SEEN = observations()

WITHOUT_VLA_KIT = """
import sys
sys.modules["vla_kit"] = None
from safetensors.torch import load_file
example = load_file("example.safetensors")
actions = example.pop("actions")
if sys.argv[1] == "torch":
    import torch
    got = torch.export.load("policy.pt2").module()(**example).detach()
else:
    import onnxruntime, torch
    session = onnxruntime.InferenceSession("policy.onnx")
    got = torch.from_numpy(session.run(None, {one.name: example[one.name].numpy() for one in session.get_inputs()})[0])
print(float((got - actions).abs().max()))
"""


@pytest.fixture(scope="module")
def subject():
    return policy("timm", "state")


@pytest.fixture(scope="module", params=["torch", pytest.param("onnx", marks=pytest.mark.slow)])
def exported(request, subject, tmp_path_factory, sizes_left_open):
    folder = tmp_path_factory.mktemp("export") / "out"
    return request.param, folder, export_policy(subject, observations(), folder, format=request.param, source="a test")


def test_the_whole_policy_is_written(exported):
    kind, folder, written = exported
    file = {"torch": "policy.pt2", "onnx": "policy.onnx"}[kind]
    assert sorted(path.name for path in folder.iterdir()) == sorted([file, "export.json", "example.safetensors"])
    assert (written.part, written.left_out, written.file) == ("policy", {}, folder / file)
    assert written.any_length == ("batch", "word")
    assert written.largest_difference < 1e-4


def test_the_description_names_all_that_goes_in_and_comes_out(exported, subject):
    _, folder, written = exported
    facts = json.loads((folder / "export.json").read_text())
    shapes = {one["name"]: (one["dtype"], one["shape"]) for one in facts["inputs"]}
    assert shapes == {
        "pixels": ("uint8", ["batch", 2, 3, 32, 32]),
        "text_ids": ("int64", ["batch", "word"]),
        "text_mask": ("bool", ["batch", "word"]),
        "state": ("float32", ["batch", 4]),
        "noise": ("float32", ["batch", 16, 4]),
    }
    assert facts["output"]["shape"] == ["batch", 16, 4]
    assert [channel["name"] for channel in facts["output"]["channels"]] == list(
        subject.prompter.spec(ROBOT).action_space.names
    )
    assert facts["views"] == ["cam_high", "cam_left_wrist"]
    assert facts["noise"] == "standard normal; the program multiplies it by 0.5"
    assert (facts["observations"], facts["largest_difference"]) == ("a test", written.largest_difference)
    example = load_file(folder / "example.safetensors")
    assert torch.equal(example["state"], torch.stack([torch.from_numpy(one.state) for one in observations()]))


def test_it_runs_without_vla_kit(exported):
    kind, folder, _ = exported
    command = [sys.executable, "-c", WITHOUT_VLA_KIT, kind]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-4


@pytest.mark.parametrize(("error", "shown"), [(0.01, "0.005"), (float("nan"), "nan")])
def test_a_file_that_answers_otherwise_is_not_left_there(subject, tmp_path, monkeypatch, error, shown):
    """The quantiles of channel 0 are 4 apart, and 2 in normalised actions: 0.01 become 0.005."""
    own = torch.from_numpy(np.stack(subject.act(SEEN, generator=write_module._generators(SEEN))))
    wrong = own.clone()
    wrong[0, 3, 0] += error
    monkeypatch.setattr(write_module, "_write", lambda graph, inputs, file, samples: (inputs, (), []))
    monkeypatch.setattr(write_module, "open_torch", lambda file: lambda inputs: wrong)
    reason = rf"actions of policy.pt2 must differ from the policy's by at most 0.0001 \(in .*, got {shown}"
    with pytest.raises(ExportError, match=reason):
        export_policy(subject, SEEN, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


class Foreign(nn.Module):
    """A backbone for which nobody wrote a graph."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def prepare(self, seen):
        return self.inner.prepare(seen)

    def forward(self, inputs):
        return self.inner(inputs)


@pytest.mark.slow
def test_the_head_goes_alone_where_the_backbone_cannot(tmp_path):
    subject = policy("timm", "anchored")
    subject.backbone = Foreign(subject.backbone)
    written = export_policy(subject, observations(), tmp_path / "out")
    assert (written.part, written.file.name) == ("head", "head.pt2")
    assert written.left_out["backbone"].startswith(
        "backbone must be a QwenVLBackbone, a TimmBackbone or a ContextGraph"
    )
    facts = json.loads((tmp_path / "out" / "export.json").read_text())
    assert [one["name"] for one in facts["inputs"]] == ["hidden", "mask", "position_ids", "noise"]
    assert facts["left_out"] == written.left_out
    assert written.any_length == ("batch", "token")


def test_refused_arguments(subject, tmp_path):
    with pytest.raises(SettingError, match="tolerance must be above 0 and finite, got 0"):
        export_policy(subject, observations(), tmp_path / "out", tolerance=0)
    with pytest.raises(ShapeError, match="observations must hold at least one observation, got none"):
        export_policy(subject, [], tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(SettingError, match="folder must not exist or be empty"):
        export_policy(subject, observations(), tmp_path / "full")


@pytest.mark.slow
def test_a_head_that_fixes_the_batch_is_exported_for_one_robot(tmp_path):
    written = export_policy(policy("timm", "per_embodiment"), SEEN[:1], tmp_path / "out")
    facts = json.loads((tmp_path / "out" / "export.json").read_text())
    assert written.any_length == ()
    assert written.notes[0].startswith("batch and word of any length: ")
    assert facts["output"]["shape"] == [1, 16, 4]
    assert load_file(tmp_path / "out" / "example.safetensors")["actions"].shape == (1, 16, 4)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["torch", "onnx"])
@pytest.mark.parametrize(
    ("backbone_name", "head_name", "any_length"),
    [
        ("qwen3", "joint", ("batch", "token")),
        ("qwen3", "anchored", ("batch", "token")),
        ("qwen2_5", "cached", ("batch", "token")),
        ("qwen3_5", "cached", ("batch",)),
        ("timm", "per_embodiment", ()),
    ],
)
def test_every_backbone_and_head(backbone_name, head_name, any_length, format, tmp_path):
    subject = policy(backbone_name, head_name)
    written = export_policy(subject, observations(), tmp_path / "out", format=format)
    assert (written.part, written.any_length) == ("policy", any_length)
    assert written.largest_difference < 1e-4
