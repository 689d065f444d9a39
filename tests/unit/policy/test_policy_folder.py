"""A policy in a folder: the same bits when it comes back, refusals by name when something does not fit."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

from vla_kit.actions import ActionSpace, ChannelGroup, QuantileNormalizer, QuantileStats
from vla_kit.backbones.timm_vit import TimmBackbone
from vla_kit.backbones.tiny import tiny_qwen3_5, tiny_qwen3_vl
from vla_kit.embodiment import EmbodimentPrompter, EmbodimentSpec
from vla_kit.errors import CheckpointError, SettingError, StatisticsError
from vla_kit.flow import Euler, Heun, Midpoint
from vla_kit.heads import AnchoredHead, ConcatenatedProjection, DiTHead, PerEmbodimentProjection, StateTokenHead
from vla_kit.policy import Policy, PolicyObservation
from vla_kit.policy import folder as folder_module

SOURCE = Path(__file__).parents[3] / "src"
WORDS = {"corpus": ["push the block"], "view_tags": ["cam", "wrist"], "image_size": 32}


def robot(name, size, chunk):
    joints = ChannelGroup("joint", kind="joint", reference="absolute", unit="rad", count=size)
    gripper = ChannelGroup("gripper", kind="gripper", reference="absolute", unit="0 or 1", normalized=False)
    space = ActionSpace([joints, gripper])
    return EmbodimentSpec(name, robot_tag=name, rate_hz=10, chunk_size=chunk, action_space=space, arms="single")


ARM, CRANE = robot("arm", 1, 4), robot("crane", 2, 6)


def dit(**settings):
    sizes = {"context_width": 32, "channels": 4, "width": 16, "depth": 2, "num_heads": 2, "mlp_hidden": 16}
    return DiTHead(**(sizes | settings))


def qwen(build, **settings):
    return build(**WORDS, hidden=32, vision_layers=1, **settings)


def with_merged_lora():
    lora = pytest.importorskip("vla_kit.backbones.lora", reason="needs the extra lora")
    backbone = lora.add_lora(qwen(tiny_qwen3_5, text_layers=4), rank=2)
    for name, parameter in backbone.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    return lora.merge_lora(backbone)


FAMILIES = {
    "qwen3_vl, joint": lambda: (qwen(tiny_qwen3_vl), dit(), Euler(steps=2)),
    "qwen3_5, anchored": lambda: (
        qwen(tiny_qwen3_5),
        AnchoredHead(dit(attention="cached", sections=[1, 1, 1]), context_width=32, horizon=6, smallest_time=0.1),
        Midpoint(steps=2),
    ),
    "timm, per robot": lambda: (
        TimmBackbone("test_vit", **WORDS, width=32, text_layers=1, seed=3),
        dit(projection=partial(PerEmbodimentProjection, embodiments=["crane", "arm"])),
        Heun(steps=2),
    ),
    "lora, slices": lambda: (
        with_merged_lora(),
        dit(projection=partial(ConcatenatedProjection, sizes={"crane": 3, "arm": 2})),
        Euler(steps=3),
    ),
}


def make(backbone, head, solver, **settings):
    torch.manual_seed(0)
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.3)
    stats = {
        "arm": QuantileStats(q01=torch.tensor([10.1, 0.0]), q99=torch.tensor([20.0, 1.0])),
        "crane": QuantileStats(q01=torch.full((3,), -5.3), q99=torch.full((3,), 5.0)),
    }
    spaces = {"arm": ARM.action_space, "crane": CRANE.action_space}
    return Policy(
        backbone,
        head=head,
        prompter=EmbodimentPrompter([ARM, CRANE], state_convention=True),
        normalizer=QuantileNormalizer(stats, spaces=spaces),
        solver=solver,
        **({"channels": 4, "temperature": 0.7} | settings),
    )


@pytest.fixture(scope="module")
def policy():
    return make(*FAMILIES["qwen3_5, anchored"]())


@pytest.fixture
def saved(policy, tmp_path):
    policy.save(tmp_path / "policy")
    return tmp_path / "policy"


def seen():
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (40, 48, 3), dtype=np.uint8) for _ in range(2)]
    return [
        PolicyObservation(embodiment="arm", instruction="push the block", views={"cam": pictures[0]}),
        PolicyObservation(embodiment="crane", instruction="lift it", views={"wrist": pictures[1], "cam": pictures[0]}),
    ]


def act(policy):
    return policy.act(seen(), generator=[torch.Generator().manual_seed(seed) for seed in (1, 2)])


def assert_same_bits(first, second):
    assert all(np.array_equal(one, other) for one, other in zip(act(first), act(second), strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_comes_back_with_the_same_bits(family, tmp_path):
    first = make(*FAMILIES[family]())
    first.save(tmp_path / "policy")
    second = Policy.load(str(tmp_path / "policy"))
    assert_same_bits(first, second)
    assert second.temperature == 0.7
    assert second.normalizer.fingerprints == first.normalizer.fingerprints
    assert [spec.action_space.fingerprint for spec in second.prompter.specs] == [
        spec.action_space.fingerprint for spec in first.prompter.specs
    ]
    second.save(tmp_path / "again")  # and a loaded policy is saved again, word for word
    for name in ("policy.yaml", "embodiments.yaml", "statistics.json", "README.md"):
        assert (tmp_path / "again" / name).read_text() == (tmp_path / "policy" / name).read_text()
    again, before = (load_file(tmp_path / name / "model.safetensors") for name in ("again", "policy"))
    assert again.keys() == before.keys()
    assert all(torch.equal(again[name], before[name]) for name in before)


def test_a_policy_that_reads_the_state_comes_back(tmp_path):
    """In the prompt and in the head, with statistics of its own."""
    first = make(qwen(tiny_qwen3_vl), dit(), Euler(steps=2))
    space = ActionSpace([ChannelGroup("measured", kind="joint", reference="absolute", unit="rad", count=2)])
    states = QuantileNormalizer(
        {"arm": QuantileStats(q01=torch.tensor([0.1, 0.2]), q99=torch.ones(2))}, spaces={"arm": space}
    )
    policy = Policy(
        first.backbone,
        head=StateTokenHead(first.head, state_channels=3),
        prompter=EmbodimentPrompter([replace(ARM, state_space=space)], state_bins=64),
        normalizer=first.normalizer,
        solver=first.solver,
        channels=4,
        state_normalizer=states,
    )
    policy.save(tmp_path / "policy")
    asked = [replace(seen()[0], state=np.array([0.3, 0.9], dtype=np.float32))]
    chunks = [
        one.act(asked, generator=[torch.Generator().manual_seed(1)])[0]
        for one in (policy, Policy.load(tmp_path / "policy"))
    ]
    assert np.array_equal(*chunks)
    edit(tmp_path / "policy" / "embodiments.yaml", "name: measured", "name: guessed")
    with pytest.raises(CheckpointError, match="space of 'arm' must be"):
        Policy.load(tmp_path / "policy")


def test_weights_keep_their_precision_and_tied_ones_are_saved_once(tmp_path):
    backbone = qwen(tiny_qwen3_vl)
    backbone.model.model.language_model.to(torch.bfloat16)
    first = make(backbone, dit(), Euler(steps=2))
    first.save(tmp_path / "policy")
    state = load_file(tmp_path / "policy" / "model.safetensors")
    tied = [name for name in state if name.endswith(("lm_head.weight", "embed_tokens.weight"))]
    assert len(tied) == 1
    assert state[tied[0]].dtype == torch.bfloat16
    second = Policy.load(tmp_path / "policy")
    mine, theirs = first.backbone.state_dict(), second.backbone.state_dict()
    assert all(mine[name].dtype == theirs[name].dtype and torch.equal(mine[name], theirs[name]) for name in mine)
    assert second.backbone.model.lm_head.weight is second.backbone.model.get_input_embeddings().weight


def test_the_files_are_for_people(saved):
    assert {path.name for path in saved.iterdir()} == {
        *("policy.yaml", "embodiments.yaml", "statistics.json", "model.safetensors", "README.md", "backbone"),
    }
    settings = yaml.safe_load((saved / "policy.yaml").read_text())
    assert settings["head"]["class_path"] == "vla_kit.heads.anchored.AnchoredHead"
    assert settings["head"]["init_args"]["head"]["init_args"]["sections"] == [1, 1, 1]
    assert settings["solver"] == {"class_path": "vla_kit.flow.solvers.Midpoint", "init_args": {"steps": 2}}
    statistics = json.loads((saved / "statistics.json").read_text())["actions"]
    assert statistics["arm"]["q01"][0] == pytest.approx(10.1)
    card = (saved / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: vla-kit\n")
    assert "| `crane` | crane | 10 | 6 | 2 joint (absolute, rad), 1 gripper (absolute, 0 or 1) |" in card


def test_embodiments_are_the_command_lines_yaml(saved):
    jsonargparse = pytest.importorskip("jsonargparse")
    import vla_kit.training._parsing  # noqa: F401

    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(EmbodimentPrompter, "prompter")
    content = yaml.safe_load((saved / "embodiments.yaml").read_text())
    built = parser.instantiate(parser.parse_object({"prompter": content})).prompter
    assert built.specs == (replace(ARM, rate_hz=10.0), replace(CRANE, rate_hz=10.0))


PROGRAM = """
import sys
sys.path.insert(0, {source!r})
sys.modules.update(dict.fromkeys(["jsonargparse", "lightning", "pytorch_lightning", "torchmetrics"]))
import pickle
import numpy as np
import torch
from vla_kit.policy import Policy, PolicyObservation

def refuse(*args, **settings):
    raise AssertionError("something is unpickled")

pickle.load = pickle.loads = pickle.Unpickler = torch.load = refuse
policy = Policy.load({folder!r})
seen = PolicyObservation(embodiment="arm", instruction="push", views={{"cam": np.zeros((32, 32, 3), dtype=np.uint8)}})
np.save({out!r}, policy.act([seen], generator=[torch.Generator().manual_seed(0)])[0])
"""


def test_loads_without_lightning_and_without_pickles(policy, saved, tmp_path):
    out = tmp_path / "chunk.npy"
    program = PROGRAM.format(source=str(SOURCE), folder=str(saved), out=str(out))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    picture = np.zeros((32, 32, 3), dtype=np.uint8)
    one = PolicyObservation(embodiment="arm", instruction="push", views={"cam": picture})
    here = policy.act([one], generator=[torch.Generator().manual_seed(0)])[0]
    np.testing.assert_allclose(np.load(out), here, rtol=0, atol=1e-4)  # threads of the other process may differ


def test_the_folder_is_whole_or_not_there(policy, tmp_path, monkeypatch):
    def stop(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(folder_module, "save_model", stop)
    with pytest.raises(KeyboardInterrupt):
        policy.save(tmp_path / "policy")
    assert list(tmp_path.iterdir()) == []


def test_content_is_never_replaced(policy, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(SettingError, match="folder must not exist or be empty"):
        policy.save(tmp_path)
    with pytest.raises(SettingError, match="folder must not exist or be empty"):
        policy.save(tmp_path / "mine.txt")
    (tmp_path / "empty").mkdir()
    policy.save(tmp_path / "empty")
    assert_same_bits(policy, Policy.load(tmp_path / "empty", temperature=0.7))


def edit(path, before, after):
    text = path.read_text()
    changed = re.sub(before, after, text, count=1)
    assert changed != text
    path.write_text(changed)


@pytest.mark.parametrize(
    ("file", "before", "after", "error", "message"),
    [
        ("policy.yaml", "format: 1", "format: 2", CheckpointError, "format must be 1 for vla-kit .*, got 2"),
        ("policy.yaml", "steps: 2", "steps: 0", SettingError, "steps must be at least 1, got 0"),
        ("policy.yaml", "steps: 2", "stages: 2", CheckpointError, "init_args must be those of vla_kit.flow.*stages"),
        ("policy.yaml", "Midpoint", "Leapfrog", CheckpointError, "class_path must name a part of vla_kit.*Leapfrog"),
        (
            "policy.yaml",
            "width: 16",
            "width: 32",
            CheckpointError,
            r"must fit the parts.* of another shape: head\.head\..* instead of .* and \d+ more\.",
        ),
        (
            "policy.yaml",
            "depth: 2",
            "depth: 3",
            CheckpointError,
            r"must fit the parts.* 6 missing: head\.head\.blocks\.2\.",
        ),
        (
            "policy.yaml",
            "depth: 2",
            "depth: 1",
            CheckpointError,
            r"must fit the parts.* 6 unknown: head\.head\.blocks\.1\.",
        ),
        ("policy.yaml", "source: backbone", "source: ../../other", CheckpointError, "source must be a folder within"),
        (
            "policy.yaml",
            "channels: 4\ntemp",
            "channels: 2\ntemp",
            CheckpointError,
            "channels must be at least the size",
        ),
        (
            "policy.yaml",
            "temperature: 0.7",
            "temperature: -1",
            SettingError,
            "temperature must be at least 0 and finite, got -1",
        ),
        (
            "policy.yaml",
            "temperature: 0.7",
            "temperature: hot",
            CheckpointError,
            "temperature must be a number, got 'hot'",
        ),
        ("policy.yaml", "solver:\n", "solver: [\n", CheckpointError, "must be YAML"),
        ("policy.yaml", "solver:", "integrator:", CheckpointError, "must hold the keys .*'solver'"),
        ("embodiments.yaml", "unit: rad", "unit: deg", CheckpointError, "space of 'arm' must be"),
        (
            "embodiments.yaml",
            "count: 1",
            "count: 2",
            StatisticsError,
            r"one entry per channel of the space of 'arm' \(3",
        ),
        ("embodiments.yaml", "name: arm", "name: leg", CheckpointError, "must be of the robots .*got 'arm'"),
        ("embodiments.yaml", "normalized: true", "normalized: false", CheckpointError, "fingerprint of 'arm' must be"),
        ("statistics.json", "20.0", "21.0", CheckpointError, "fingerprint of 'arm' must be"),
        ("statistics.json", '"fingerprint"', '"print"', CheckpointError, "must hold statistics per robot"),
        ("statistics.json", "}", "", CheckpointError, "must hold statistics per robot"),
        ("statistics.json", "20.0", '"high"', CheckpointError, "must hold statistics per robot"),
        (
            "backbone/config.json",
            "{",
            '{"auto_map": {"AutoConfig": "evil.Evil"},',
            CheckpointError,
            "no code of its own",
        ),
        ("backbone/config.json", "{", '{"_attn_implementation": "a/b",', CheckpointError, "no code of its own"),
        (
            "backbone/config.json",
            '"model_type": "qwen3_5"',
            '"model_type": "x"',
            CheckpointError,
            "source must be a whole folder",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(file, before, after, error, message, saved):
    edit(saved / file, before, after)
    with pytest.raises(error, match=message):
        Policy.load(saved)


def test_an_error_says_which_version_wrote_the_folder(saved):
    edit(saved / "policy.yaml", "vla_kit: .*", "vla_kit: 9.9.9")
    edit(saved / "policy.yaml", "steps: 2", "stages: 2")
    with pytest.raises(CheckpointError) as caught:
        Policy.load(saved)
    assert "was written by vla-kit 9.9.9" in caught.value.__notes__[0]


@pytest.mark.parametrize("name", ["policy.yaml", "embodiments.yaml", "statistics.json", "model.safetensors"])
def test_a_missing_file_is_named(name, saved):
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=f"without {name}"):
        Policy.load(saved)


def test_a_missing_configuration_of_the_backbone_asks_no_hub(saved):
    (saved / "backbone" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"source must be a whole folder .*ValueError: Unrecognized model"):
        Policy.load(saved)


def test_broken_weights_are_refused(saved):
    whole = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="weights must be a whole safetensors file"):
        Policy.load(saved)
    (saved / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="weights must be a whole safetensors file"):
        Policy.load(saved)


def test_missing_tensors_are_named(saved):
    state = load_file(saved / "model.safetensors")
    del state["head.readout.bias"]
    save_file(state, saved / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"with 1 missing: head\.readout\.bias\. Take"):
        Policy.load(saved)


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "subprocess.Popen",
        "torch.nn.Linear",
        "vla_kit.cli.main",
        "vla_kit.data.lerobot_writer.LeRobotWriter",
        "vla_kit.heads.dit.nn.Linear",
        "vla_kit.heads.dit.Context",
        "vla_kit.backbones.tiny.tiny_qwen3_vl",
        "vla_kit.backbones.qwen_vl.QwenVLBackbone.from_pretrained",
    ],
)
def test_nothing_but_parts_is_called(path, saved):
    settings = yaml.safe_load((saved / "policy.yaml").read_text())
    settings["head"] = {"class_path": path, "init_args": {}}
    (saved / "policy.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(CheckpointError, match=f"class_path must name a part of vla_kit .*'{re.escape(path)}'"):
        Policy.load(saved)


def test_a_part_of_another_kind_is_refused(saved):
    settings = yaml.safe_load((saved / "policy.yaml").read_text())
    settings["backbone"] = settings["head"]
    (saved / "policy.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(CheckpointError, match="backbone must be a Backbone, got AnchoredHead"):
        Policy.load(saved)


class Straight(nn.Module):
    """A head of somebody else."""

    def __init__(self, *, channels: int, slopes: tuple[float, ...] = (1.0,)):
        super().__init__()
        self.channels = channels
        self.slopes = slopes
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, noisy_actions, time, context, mask):
        return torch.where(mask, self.weight * self.slopes[0] * noisy_actions, 0)


def test_classes_of_others_are_built_where_the_caller_allows_them(tmp_path):
    first = make(qwen(tiny_qwen3_vl), Straight(channels=4, slopes=(0.5, 2.0)), Euler(steps=2))
    first.save(tmp_path / "policy")
    with pytest.raises(CheckpointError, match=r"got '.*Straight'\. Where you trust its code"):
        Policy.load(tmp_path / "policy")
    assert_same_bits(first, Policy.load(tmp_path / "policy", allowed=[Straight]))


def test_a_part_that_forgets_its_arguments_is_refused(tmp_path):
    head = Straight(channels=4)
    del head.slopes
    with pytest.raises(SettingError, match=r"head must keep the argument 'slopes' of .*Straight as an attribute"):
        make(qwen(tiny_qwen3_vl), head, Euler()).save(tmp_path / "policy")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SettingError, match="solver"):
        make(qwen(tiny_qwen3_vl), dit(), lambda field, noise: noise).save(tmp_path / "policy")


def test_adapters_must_be_merged(tmp_path):
    lora = pytest.importorskip("vla_kit.backbones.lora", reason="needs the extra lora")
    with pytest.raises(CheckpointError, match="Call merge_lora first"):
        make(lora.add_lora(qwen(tiny_qwen3_vl), rank=2), dit(), Euler()).save(tmp_path / "policy")


def test_statistics_of_robots_without_words_stay_behind(policy, tmp_path):
    fewer = Policy.from_module(policy, temperature=0.7)
    fewer.prompter = EmbodimentPrompter([ARM])
    fewer.save(tmp_path / "policy")
    assert Policy.load(tmp_path / "policy").normalizer.embodiments == ("arm",)
