import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from vla_kit.data.readers import _lerobot_hub
from vla_kit.data.readers.lerobot import open_lerobot
from vla_kit.errors import DataError


class Response:
    status_code, headers, request = 404, {}, None


@pytest.fixture
def hub(monkeypatch):
    """What was asked for, and the answer: a folder or an error."""
    asked, answers = [], []

    def answer(repo_id, **settings):
        asked.append((repo_id, settings))
        if isinstance(answers[0], Exception):
            raise answers[0]
        return str(answers[0])

    monkeypatch.setattr(_lerobot_hub, "snapshot_download", answer)
    return asked, answers


def test_metadata_first_then_the_rest(hub, write_set):
    asked, answers = hub
    answers.append(write_set("a6d3")[0])
    source = open_lerobot("owner/push-it", revision="v3.0")
    assert (source.name, source.lengths.tolist()) == ("push-it", [5, 1, 7])
    assert [settings.pop("allow_patterns") for _, settings in asked] == [
        ["meta/*"],
        ["meta/*", "data/*", "videos/*", "images/*"],
    ]
    assert asked[0] == asked[1] == ("owner/push-it", {"repo_type": "dataset", "revision": "v3.0"})
    assert open_lerobot("owner/push-it", name="mine").name == "mine"


def test_data_of_an_unknown_version_are_not_fetched(hub, write_set):
    asked, answers = hub
    root = write_set()[0]
    info = (root / "meta/info.json").read_text().replace('"v3.0"', '"v1.6"')
    (root / "meta/info.json").write_text(info)
    answers.append(root)
    with pytest.raises(DataError, match=r"codebase_version must be v2.0, v2.1 or v3.0, got v1.6"):
        open_lerobot("owner/old")
    assert len(asked) == 1


def test_a_folder_goes_first(hub, write_set, monkeypatch, tmp_path):
    write_set("owner/name")
    monkeypatch.chdir(tmp_path)
    assert open_lerobot("owner/name").lengths.tolist() == [5, 1, 7]
    assert hub[0] == []


def test_offline(hub):
    hub[1].append(LocalEntryNotFoundError("outgoing traffic has been disabled"))
    with pytest.raises(
        DataError, match=r"got owner/name: no such folder, .* cannot be reached \(outgoing traffic.*Check the path"
    ):
        open_lerobot("owner/name")


@pytest.mark.parametrize("kind", [RepositoryNotFoundError, HfHubHTTPError])
def test_no_such_set_on_the_hub(hub, kind):
    hub[1].append(kind("404 Client Error.", response=Response()))
    with pytest.raises(DataError, match=r"got owner/name: 404 Client Error. Check the name .* `hf auth login"):
        open_lerobot("owner/name")


def test_no_folder_and_no_id(hub, tmp_path):
    with pytest.raises(DataError, match=r"root must be a folder of the LeRobot layout, got .*nowhere"):
        open_lerobot(tmp_path / "nowhere")
    assert hub[0] == []
