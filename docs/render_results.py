"""Copies measured numbers from docs/results/NAME.json into the pages, so that nobody types one by hand.

A page holds blocks that this script rewrites:

    <!-- results:demo average.success .0% -->97%<!-- /results -->
    <!-- results:demo tasks name success:.0% seconds:.1f -->
    (a table)
    <!-- /results -->

`demo` is docs/results/demo.json and `average.success` a path of keys in it. A number or text is written inline, with
an optional format; a list of objects becomes a table of the named columns, all of them where none is named.

Run `python docs/render_results.py`, or with `--check` to fail where a page is out of date.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
BLOCK = re.compile(
    r"(?P<open><!-- results:(?P<name>[a-z0-9_-]+)(?P<words>(?: [^\s>]+)+) -->)"
    r"(?P<text>.*?)(?P<close><!-- /results -->)",
    re.DOTALL,
)
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
UNKNOWN = "*not measured yet*"


def render(page: str, *, results: Path) -> str:
    """Rewrite every block of a page; blocks whose file is absent say so, fenced code stays as it is."""
    parts: list[str] = []
    position = 0
    for fence in FENCE.finditer(page):
        parts += [_render(page[position : fence.start()], results), fence.group()]
        position = fence.end()
    return "".join([*parts, _render(page[position:], results)])


def pages() -> list[Path]:
    """Every page that may hold a block."""
    root = DOCS.parent
    return [root / "README.md", *sorted(DOCS.rglob("*.md")), *sorted((root / "examples").rglob("*.md"))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite the pages, or check them; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a page is out of date")
    check = parser.parse_args(arguments).check
    outdated = 0
    for path in pages():
        before = path.read_text(encoding="utf-8")
        after = render(before, results=DOCS / "results")
        if before != after:
            outdated += 1
            print(f"{path.relative_to(DOCS.parent)}: {'out of date' if check else 'rewritten'}")
            if not check:
                path.write_text(after, encoding="utf-8")
    if check and outdated:
        print("Run: make results")
    return 1 if check and outdated else 0


def _render(text: str, results: Path) -> str:
    return BLOCK.sub(lambda block: f"{block['open']}{_value(block, results)}{block['close']}", text)


def _value(block: re.Match[str], results: Path) -> str:
    path, *formats = block["words"].split()
    file = results / f"{block['name']}.json"
    if not file.exists():
        return UNKNOWN
    value: Any = json.loads(file.read_text(encoding="utf-8"))
    for key in path.split("."):
        try:
            value = value[int(key) if isinstance(value, list) else key]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise SystemExit(f"{file}: {path!r} must lead to a value, got nothing at {key!r}.") from error
    if isinstance(value, list):
        return f"\n\n{_table(value, formats)}\n\n"
    if isinstance(value, dict):
        raise SystemExit(f"{file}: {path!r} must lead to a number, a text or a list of objects, got an object.")
    return format(value, formats[0] if formats else "")


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    pairs = [column.partition(":")[::2] for column in columns] or [(key, "") for key in rows[0]]
    lines = [[name.replace("_", " ") for name, _ in pairs], ["---"] * len(pairs)]
    lines += [["" if row.get(name) is None else format(row[name], spec) for name, spec in pairs] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    sys.exit(main())
