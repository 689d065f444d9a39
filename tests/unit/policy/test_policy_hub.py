"""The hub, with its client faked: what is uploaded, what is fetched, what is refused."""

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from torch import nn

from vla_kit.actions import ActionSpace, ChannelGroup, QuantileNormalizer, QuantileStats
from vla_kit.backbones.timm_vit import TimmBackbone
from vla_kit.embodiment import EmbodimentPrompter, EmbodimentSpec
from vla_kit.errors import CheckpointError, VLAKitError
from vla_kit.flow import Euler
from vla_kit.heads import DiTHead
from vla_kit.policy import Policy, hub


@pytest.fixture(scope="module")
def policy():
    space = ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad")])
    spec = EmbodimentSpec("arm", robot_tag="Arm", rate_hz=10, chunk_size=4, action_space=space, arms="single")
    return Policy(
        TimmBackbone("test_vit", corpus=["push"], view_tags=["cam"], image_size=32, width=16, text_layers=1),
        head=DiTHead(context_width=16, channels=2, width=16, depth=1, num_heads=2, mlp_hidden=8),
        prompter=EmbodimentPrompter([spec]),
        normalizer=QuantileNormalizer(
            {"arm": QuantileStats(q01=torch.zeros(1), q99=torch.ones(1))}, spaces={"arm": space}
        ),
        solver=Euler(steps=1),
        channels=2,
    )


class Commit:
    commit_url = "the commit"


@pytest.fixture
def client(monkeypatch):
    """What the client was asked for, and the files that were uploaded."""
    asked = []

    class Api:
        def __init__(self, token=None):
            asked.append(("token", token))

        def create_repo(self, repo_id, *, private, exist_ok):
            asked.append(("create", repo_id, private, exist_ok))

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            asked.append(("upload", repo_id, commit_message, {path.name for path in folder_path.iterdir()}))
            return Commit()

    monkeypatch.setattr(hub, "HfApi", Api)
    return asked


def test_uploads_the_folder(policy, client):
    assert policy.push_to_hub("owner/name", private=True, token="secret", message="first") == "the commit"
    assert client == [
        ("token", "secret"),
        ("create", "owner/name", True, True),
        (
            "upload",
            "owner/name",
            "first",
            {"policy.yaml", "embodiments.yaml", "statistics.json", "model.safetensors", "README.md"},
        ),
    ]


def test_fetches_the_files_of_a_policy_and_no_others(policy, tmp_path, monkeypatch):
    policy.save(tmp_path / "policy")
    asked = []

    def fetch(repo_id, **settings):
        asked.append((repo_id, settings))
        return str(tmp_path / "policy")

    monkeypatch.setattr(hub, "snapshot_download", fetch)
    loaded = Policy.load("owner/name", revision="v1")
    assert all(map(torch.equal, loaded.head.parameters(), policy.head.parameters()))
    files = [
        "policy.yaml",
        "embodiments.yaml",
        "statistics.json",
        "model.safetensors",
        "eigengrasps.safetensors",
        "README.md",
        "backbone/*",
    ]
    assert asked == [("owner/name", {"revision": "v1", "allow_patterns": files})]


def test_refusals_of_the_hub_say_what_to_do(policy, client, monkeypatch):
    def refuse(*args, **settings):
        raise LocalEntryNotFoundError("outgoing traffic has been disabled")

    monkeypatch.setattr(hub, "snapshot_download", refuse)
    with pytest.raises(CheckpointError, match=r"'owner/name': no such folder here, and the hub says 'outgoing traffic"):
        Policy.load("owner/name")
    monkeypatch.setattr(hub.HfApi, "create_repo", refuse)
    with pytest.raises(CheckpointError, match=r"repo_id must be a repository that you may write to, got 'owner/name'"):
        policy.push_to_hub("owner/name")


@pytest.mark.parametrize(
    ("folder", "message", "text"),
    [
        ("no such place", "Upload", r"folder must be one that Policy\.save wrote, got .*no such place"),
        (".", " ", "message must hold words, got ' '"),
    ],
)
def test_no_repository_is_made_for_what_cannot_be_uploaded(folder, message, text, client, tmp_path):
    with pytest.raises(VLAKitError, match=text):
        hub.upload_policy(tmp_path / folder, "owner/name", message=message)
    assert client == []


@pytest.mark.parametrize("wrong", ["/no/such", "./policy", "policy", "a/b/c", "~/policy-that-is-not-there"])
def test_paths_are_not_taken_for_ids(wrong):
    with pytest.raises(CheckpointError, match="which is neither"):
        Policy.load(wrong)


def test_the_head_moves_to_the_device(policy, tmp_path):
    policy.save(tmp_path / "policy")
    loaded = Policy.load(tmp_path / "policy", device=torch.device("cpu"))
    assert loaded.device == torch.device("cpu")
    assert isinstance(loaded.head, nn.Module)
    assert not loaded.head.training
