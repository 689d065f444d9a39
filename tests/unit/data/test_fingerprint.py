import pytest

from vla_kit.data.fingerprint import fingerprint_files


@pytest.fixture
def root(tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_bytes(b"{}" + b" " * 20000)
    (tmp_path / "data.bin").write_bytes(b"0" * 100000)
    return tmp_path


def digest(root):
    return fingerprint_files(root, root.rglob("*"), whole=lambda path: path.suffix == ".json")


def test_order_and_folders_do_not_matter(root):
    paths = list(root.rglob("*"))
    assert fingerprint_files(root, reversed(paths), whole=lambda path: path.suffix == ".json") == digest(root)
    assert len(digest(root)) == 16


@pytest.mark.parametrize(
    ("name", "place", "seen"),
    [("data.bin", 99999, True), ("data.bin", 5, False), ("meta/info.json", 2, True)],
    ids=["end", "middle of what is not read whole", "begin of what is"],
)
def test_a_changed_byte(root, name, place, seen):
    before = digest(root)
    data = bytearray((root / name).read_bytes())
    data[place] += 1
    (root / name).write_bytes(data)
    assert (digest(root) != before) == seen


def test_names_and_sizes_count(root):
    before = digest(root)
    (root / "data.bin").rename(root / "date.bin")
    renamed = digest(root)
    (root / "date.bin").write_bytes(b"0" * 100001)
    assert len({before, renamed, digest(root)}) == 3
