import pytest

from vla_kit.data.readers import lerobot
from vla_kit.data.readers.open import open_source
from vla_kit.data.source import EpisodeSource
from vla_kit.errors import DataError, SettingError


def test_finds_lerobot_in_a_folder(write_set):
    root, _ = write_set("Größe 1")
    source = open_source(root)
    assert isinstance(source, EpisodeSource)
    assert (source.name, len(source.lengths)) == ("Größe 1", 3)
    assert open_source(str(root), name="other").name == "other"


def test_finds_hdf5_in_a_file_and_in_a_folder(tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "runs").mkdir()
    path = tmp_path / "runs/low dim.hdf5"
    with h5py.File(path, "w") as file:
        demo = file.create_group("data/demo_0")
        demo.attrs["num_samples"] = 2
        demo["actions"] = [[1.0, 2.0], [3.0, 4.0]]
        demo["obs/robot0_eef_pos"] = [[0.0, 0.0, 0.0]] * 2
        file["data"].attrs["env_args"] = "{}"
    for root in (path, tmp_path / "runs"):
        source = open_source(root)
        assert source.lengths.tolist() == [2]
        assert source.column(0, "actions").tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_finds_rlds_in_a_folder(shared_data):
    pytest.importorskip("tfrecord")
    assert len(open_source(shared_data / "bridge_rlds_debug").lengths) == 25


def test_two_words_with_a_slash_are_of_the_hub(monkeypatch):
    asked = []
    monkeypatch.setattr(
        lerobot, "open_lerobot", lambda root, *, name, revision="main": asked.append((root, name, revision))
    )
    open_source("lerobot/pusht", name="pusht")
    open_source("lerobot/pusht", options={"revision": "v2.1"})
    assert asked == [("lerobot/pusht", "pusht", "main"), ("lerobot/pusht", None, "v2.1")]


def test_an_option_of_another_format_is_refused(write_set):
    root, _ = write_set("pick_up")
    with pytest.raises(SettingError, match=r"must be those of open_lerobot, got 'langage'. Did you mean 'language'\?"):
        open_source(root, options={"langage": "task"})
    with pytest.raises(DataError, match="nowhere"):
        open_source(root, options={"language": "nowhere"})


def test_a_slip_in_a_path_is_no_hub_id(write_set, tmp_path, monkeypatch):
    write_set("pick_up")
    monkeypatch.chdir(tmp_path.parent)
    folder = tmp_path.name
    with pytest.raises(
        DataError, match=rf"got {folder}/pick_pu, which does not exist. Did you mean {folder}/pick_up\?"
    ):
        open_source(f"{folder}/pick_pu")
    with pytest.raises(DataError, match=r"got nowhere/at/all, which does not exist. Check the path"):
        open_source("nowhere/at/all")
    with pytest.raises(DataError, match=r"got pickle, which does not exist"):
        open_source("pickle")


def test_a_folder_of_no_known_format_lists_the_formats(tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(
        DataError,
        match=r"a LeRobot folder \(meta/info.json\), a RLDS folder .*, a HDF5 .* with \['notes.txt'\]. Give the",
    ):
        open_source(tmp_path)
    with pytest.raises(DataError, match=r"notes.txt with \['notes.txt'\]"):
        open_source(tmp_path / "notes.txt")
