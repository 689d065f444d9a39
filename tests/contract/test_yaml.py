"""Every public class whose arguments are plain values is built from YAML as from Python."""

import inspect
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest
import yaml
from contract_cases.probe import Case, case_files
from jsonargparse import ArgumentError, ArgumentParser


def is_plain(annotation: Any) -> bool:
    """Whether YAML can write every value of a type."""
    if get_origin(annotation) is Literal:
        return True
    if arguments := [part for part in get_args(annotation) if part is not Ellipsis]:
        return all(map(is_plain, arguments))
    return annotation in (bool, int, float, str, Path, NoneType)


def takes_plain_values(build: type) -> bool:
    """Whether every argument of a class is a number, a text, or lists and maps of them."""
    return all(is_plain(parameter.annotation) for parameter in inspect.signature(build).parameters.values())


CASES: list[Case] = [
    case
    for file in case_files()
    for case in file.CASES
    if inspect.isclass(case.build) and takes_plain_values(case.build)
]
pytestmark = pytest.mark.usefixtures("shape_hook_off")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_is_built_from_yaml(case: Case, tmp_path: Path):
    good = {name: str(value) if isinstance(value, Path) else value for name, value in case.good(tmp_path).items()}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--part", type=case.build)
    text = yaml.safe_dump({"class_path": case.name, "init_args": good})
    built = parser.instantiate(parser.parse_object({"part": yaml.safe_load(text)})).part
    assert type(built) is case.build
    with pytest.raises(ArgumentError, match="no_such_argument"):
        parser.parse_object({"part": {"class_path": case.name, "init_args": good | {"no_such_argument": 1}}})
