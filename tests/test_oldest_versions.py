"""What pyproject.toml allows is what `make test-oldest` tests."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def test_constraints_hold_the_lowest_version_of_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "tests" / "oldest.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    for text in project["dependencies"]:
        requirement = Requirement(text)
        (lowest,) = [part.version for part in requirement.specifier if part.operator == ">="]
        assert (pinned[requirement.name.lower()] + ".").startswith(lowest + "."), requirement
