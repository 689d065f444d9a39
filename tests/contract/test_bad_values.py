"""Every public constructor and loader refuses wrong values with an error of ours that helps."""

import enum
import importlib
import inspect
from pathlib import Path

import pytest
from contract_cases.probe import Case, case_files, faults_of_text, wrong_values

from vla_kit.errors import MissingExtraError, VLAKitError

SURFACE = Path(__file__).parents[1] / "api_surface.txt"

FILES = case_files()
CASES: list[Case] = [case for file in FILES for case in file.CASES]
WITHOUT_CASE: dict[str, str] = {name: why for file in FILES for name, why in file.WITHOUT_CASE.items()}
pytestmark = pytest.mark.usefixtures("shape_hook_off")  # a wrong shape reaches our own check, as it does for users


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_right_values_are_taken(case: Case, tmp_path: Path):
    good = case.good(tmp_path)
    case.build(**good)
    parameters = inspect.signature(case.build).parameters.values()
    arguments = {one.name for one in parameters if one.kind is not one.VAR_KEYWORD}
    given = set(good) & arguments if len(arguments) < len(parameters) else set(good)  # **parts takes others too
    assert arguments - set(case.left) == given, "a case gives every argument, or says in `left` why not"


@pytest.mark.parametrize(
    ("case", "argument"),
    [(case, argument) for case in CASES for argument in inspect.signature(case.build).parameters],
    ids=lambda part: part.name if isinstance(part, Case) else part,
)
def test_wrong_values_are_refused(case: Case, argument: str, tmp_path: Path):
    folder = tmp_path / "labels"
    folder.mkdir()
    labels = {label for label, _ in wrong_values(case.good(folder).get(argument))}
    meant = set(case.meant.get(argument, ()))
    assert meant <= labels, f"{argument} has no wrong value {sorted(meant - labels)}"
    faults = {}
    for label in sorted(labels):
        (folder := tmp_path / label).mkdir()
        good = case.good(folder)
        bad = good | {argument: dict(wrong_values(good[argument]))[label]}
        try:
            case.build(**bad)
        except VLAKitError as error:
            fault = faults_of_text(str(error), case.named.get(argument, argument))
            faults |= {label: f"{fault}: {error}"} if fault or label in meant else {}
        except Exception as error:  # what a user would see in place of a help
            faults[label] = f"{type(error).__name__}: {error}"
        else:
            faults |= {} if label in meant else {label: "taken without a word"}
    assert not faults, f"{case.name}, {argument}: {faults}"


def public_constructors_and_loaders() -> set[str]:
    """Full names of the public classes that are built, and of the public functions that read a place on disk."""
    found = set()
    for name in SURFACE.read_text(encoding="utf-8").split():
        module, _, attribute = name.rpartition(".")
        try:
            part = getattr(importlib.import_module(module), attribute)
        except MissingExtraError:
            continue  # a simulator or a decoder that is not installed here
        built = inspect.isclass(part) and not getattr(part, "_is_protocol", False)
        if built and issubclass(part, (Exception, enum.Enum)):
            continue
        reads = inspect.isfunction(part) and any(
            "Path" in str(parameter.annotation) for parameter in inspect.signature(part).parameters.values()
        )
        if (built or reads) and part.__module__.startswith("vla_kit."):
            found.add(f"{part.__module__}.{part.__qualname__}")
    return found


def test_every_public_constructor_and_loader_has_a_case():
    tried = {case.name for case in CASES}
    missing = sorted(public_constructors_and_loaders() - tried - set(WITHOUT_CASE))
    assert not missing, f"add a Case, or a reason to WITHOUT_CASE, in tests/contract/contract_cases: {missing}"
    assert not tried & set(WITHOUT_CASE), "a part has a case or a reason why not, not both"
