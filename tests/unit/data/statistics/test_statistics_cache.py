import json
import os
from pathlib import Path

import pytest

from vla_kit.data.statistics import StatisticsCache
from vla_kit.errors import DataError

RECIPE = {"fingerprint": "6a09", "episodes": "all", "horizon": None}


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()  # so nothing half written is left either
    return path


def test_lies_beside_the_data_and_is_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv("VLA_KIT_CACHE", str(tmp_path / "unused"))
    folder, file = tmp_path / "ein Roboter ü", tmp_path / "demo.hdf5"
    folder.mkdir()
    file.touch()
    cache = StatisticsCache()
    for place, beside in ((folder, folder / ".vla_kit"), (file, tmp_path / ".vla_kit")):
        assert cache.load(RECIPE, dict, location=str(place)) is None
        cache.store(RECIPE, {"q01": [1.0]}, location=str(place))
        assert only_file(beside).name.startswith("statistics-")
        assert cache.load(RECIPE, dict, location=str(place)) == {"q01": [1.0]}
    assert not (tmp_path / "unused").exists()


def test_other_recipes_are_other_files(tmp_path):
    cache = StatisticsCache(tmp_path)
    cache.store(RECIPE, {"q01": [1.0]}, location="set")
    for change in ({"fingerprint": "bb67"}, {"episodes": "3c6e"}, {"horizon": 8}):
        assert cache.load(RECIPE | change, dict, location="set") is None
    assert cache.load(dict(reversed(RECIPE.items())), dict, location="moved") == {"q01": [1.0]}


def test_a_folder_that_cannot_be_written_leads_to_the_shared_one(tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    (data / ".vla_kit").write_text("a file where the folder would be: not even root can write below it")
    monkeypatch.setenv("VLA_KIT_CACHE", str(tmp_path / "shared"))
    cache = StatisticsCache()
    cache.store(RECIPE, {"q01": [1.0]}, location=str(data))
    assert only_file(tmp_path / "shared")
    assert cache.load(RECIPE, dict, location=str(data)) == {"q01": [1.0]}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_leads_to_the_shared_one(tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir(mode=0o555)
    monkeypatch.setenv("VLA_KIT_CACHE", str(tmp_path / "shared"))
    StatisticsCache().store(RECIPE, {"q01": [1.0]}, location=str(data))
    assert only_file(tmp_path / "shared")


def test_shared_folder_follows_the_environment(monkeypatch):
    cache = StatisticsCache()
    monkeypatch.setenv("VLA_KIT_CACHE", "/named")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("HOME", "/home/user")
    assert cache.folders("memory:a") == [Path("/named")]
    monkeypatch.delenv("VLA_KIT_CACHE")
    assert cache.folders("memory:a") == [Path("/xdg/vla_kit")]
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.folders("memory:a") == [Path("/home/user/.cache/vla_kit")]


def test_nowhere_to_write_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match=r"statistics of set could not be kept \(.*file/cache.*Set VLA_KIT_CACHE"):
        StatisticsCache(tmp_path / "file/cache").store(RECIPE, {}, location="set")


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"recipe": {}, "statistics": {}}', b"\xff\xfe", "", '{"recipe": null}']
)
def test_broken_file_is_named(tmp_path, content):
    cache = StatisticsCache(tmp_path)
    cache.store(RECIPE, {"q01": [1.0]}, location="set")
    path = only_file(tmp_path)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=rf"{path.name} must hold statistics, got: .* Delete the file"):
        cache.load(RECIPE, dict, location="set")


def test_broken_numbers_are_named(tmp_path):
    cache = StatisticsCache(tmp_path)
    cache.store(RECIPE, {"q01": ["one"]}, location="set")
    with pytest.raises(DataError, match=r"must hold statistics, got: ValueError\(.*one.* Delete the file"):
        cache.load(RECIPE, lambda entry: [float(value) for value in entry["q01"]], location="set")


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    cache = StatisticsCache(tmp_path)
    cache.store(RECIPE, {"q01": [1.0]}, location="set")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.warns(UserWarning, match="No space left on device"):
        cache.store(RECIPE, {"q01": [2.0]}, location="set")
    assert json.loads(only_file(tmp_path).read_text())["statistics"] == {"q01": [1.0]}
