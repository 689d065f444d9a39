"""No two things share a name: test files (pytest would mix them up) and public names."""

from collections import Counter
from pathlib import Path

from test_api_surface import public_names

TESTS = Path(__file__).parent


def test_test_files_have_names_of_their_own():
    names = Counter(file.name for file in TESTS.rglob("*.py") if file.name != "conftest.py")
    repeated = [name for name, count in names.items() if count > 1]
    assert not repeated, f"rename one of each, the folders have no __init__.py: {repeated}"


def test_test_folders_are_no_packages():
    assert not list(TESTS.rglob("__init__.py"))


def test_public_names_are_defined_once():
    definitions = Counter(origin.rsplit(".", 1)[1] for origin in set(public_names().values()))
    repeated = [name for name, count in definitions.items() if count > 1 and name != "main"]
    assert not repeated, f"two modules define one public name, so a reader cannot tell them apart: {repeated}"
