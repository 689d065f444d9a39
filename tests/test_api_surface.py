"""Public names: the checked-in list, the reference pages, and one meaning per name.

`python tests/test_api_surface.py` (or `make api`) writes the list anew.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
SURFACE = Path(__file__).with_name("api_surface.txt")
REFERENCE = ROOT / "docs" / "reference"


def public_names() -> dict[str, str]:
    """Full public name -> full name where it is defined; read from the source, so that nothing heavy loads."""
    found: dict[str, str] = {}
    for file in sorted((SOURCE / "vla_kit").rglob("*.py")):
        module = ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        if any(part.startswith("_") for part in module.split(".")):
            continue
        body = ast.parse(file.read_text(encoding="utf-8")).body
        origins = {
            alias.asname or alias.name: f"{node.module}.{alias.name}"
            for node in body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for name in _declared(body) or []:
            found[f"{module}.{name}"] = origins.get(name, f"{module}.{name}")
    return found


def _declared(body: list[ast.stmt]) -> list[str] | None:
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if [getattr(target, "id", "") for target in targets] == ["__all__"]:
            return ast.literal_eval(node.value)
    return None


def _modules() -> list[Path]:
    return [file for file in sorted((SOURCE / "vla_kit").rglob("*.py")) if not file.name.startswith("_")]


def test_public_names_are_the_checked_in_ones():
    recorded, now = set(SURFACE.read_text(encoding="utf-8").split()), set(public_names())
    assert recorded == now, (
        f"public names changed: new {sorted(now - recorded)}, gone {sorted(recorded - now)}. If that is meant, run "
        "`make api`, add a line to CHANGELOG.md and an entry to docs/reference."
    )


def test_every_public_name_has_a_reference_entry():
    entries = {
        entry
        for page in REFERENCE.glob("*.md")
        for entry in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    names = public_names()
    dunder = {name for name in names if name.rsplit(".", 1)[1].startswith("__")}
    described = {names.get(entry, entry) for entry in entries}
    missing = sorted({names[name] for name in set(names) - dunder} - described)
    assert not missing, f"add to a page of docs/reference: {[f'::: {name}' for name in missing]}"
    unknown = sorted(entries - set(names))
    assert not unknown, f"docs/reference describes names that no __all__ holds: {unknown}"


def test_re_exported_names_are_public_where_they_are_defined():
    names = public_names()
    hidden = sorted(origin for origin in set(names.values()) if origin not in names)
    assert not hidden, f"add to the __all__ of their module: {hidden}"


@pytest.mark.parametrize("file", _modules(), ids=lambda file: str(file.relative_to(SOURCE)))
def test_every_module_declares_its_public_names(file: Path):
    body = ast.parse(file.read_text(encoding="utf-8")).body
    assert _declared(body) is not None, "a module needs an __all__"


if __name__ == "__main__":
    SURFACE.write_text("".join(f"{name}\n" for name in sorted(public_names())), encoding="utf-8")
