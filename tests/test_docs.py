"""The documentation runs, its numbers are the measured ones, and the changelog knows the version."""

import importlib.util
import re
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

import vla_kit
from vla_kit.shapes import AXES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
HEADINGS = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def results_script():
    spec = importlib.util.spec_from_file_location("render_results", ROOT / "docs" / "render_results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _save_named_file(example: Example) -> None:
    """Save a YAML block that begins with `# name.yaml` under that name, for the Python blocks after it."""
    named = re.match(r"# (\S+\.yaml)\n", example.parsed)
    if named:
        Path(named[1]).write_text(example.parsed, encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All blocks of a page run in order in one namespace and one empty folder, as a reader would type them."""
    monkeypatch.chdir(tmp_path)
    parsers = [PythonCodeBlockParser(), CodeBlockParser("yaml", _save_named_file)]
    for example in Sybil(parsers, path=str(ROOT)).parse(page).examples():
        example.evaluate()


def test_readme_and_tutorial_have_python_blocks():
    for page in (ROOT / "README.md", ROOT / "docs" / "tutorials" / "first-policy.md"):
        assert page.read_text(encoding="utf-8").count("```python") >= 3


def test_measured_numbers_are_up_to_date(results_script):
    outdated = [
        str(page.relative_to(ROOT))
        for page in results_script.pages()
        if results_script.render(page.read_text(encoding="utf-8"), results=ROOT / "docs" / "results")
        != page.read_text(encoding="utf-8")
    ]
    assert not outdated, f"run `make results`: {outdated}"


def test_results_fill_values_and_tables(results_script, tmp_path):
    (tmp_path / "run.json").write_text('{"all": {"rate": 0.97}, "tasks": [{"name": "push", "rate": 0.5, "n": 2}]}')
    value = "<!-- results:run all.rate .0% -->old<!-- /results -->"
    table = "<!-- results:run tasks name rate:.0% --><!-- /results -->"
    fenced = f"\n```\n{value}\n```\n"
    text = results_script.render(value + fenced + table, results=tmp_path)
    rows = "| name | rate |\n| --- | --- |\n| push | 50% |"
    assert text == value.replace("old", "97%") + fenced + table.replace("--><", f"-->\n\n{rows}\n\n<")
    assert results_script.render(text, results=tmp_path) == text
    assert "not measured yet" in results_script.render(text, results=tmp_path / "absent")
    with pytest.raises(SystemExit, match=r"'all\.speed' must lead to a value"):
        results_script.render("<!-- results:run all.speed --><!-- /results -->", results=tmp_path)


def test_changelog_has_a_heading_for_the_version():
    assert HEADINGS[0] == "Unreleased"
    assert vla_kit.__version__ in HEADINGS


def test_glossary_holds_the_words_of_shapes():
    page = (ROOT / "docs" / "explanation" / "glossary.md").read_text(encoding="utf-8")
    table = page.split("## Words of shapes")[1].split("##")[0]
    assert dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", table, re.MULTILINE)) == AXES
