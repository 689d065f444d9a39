"""Every public module keeps its weights: through a state dict, a copy and another dtype."""

import copy
import io
from pathlib import Path

import pytest
import torch
from contract_cases.probe import Case, case_files
from torch import nn

CASES: list[Case] = [
    case
    for file in case_files()
    for case in file.CASES
    if isinstance(case.build, type) and issubclass(case.build, nn.Module)
]
pytestmark = [
    pytest.mark.usefixtures("shape_hook_off"),
    pytest.mark.parametrize("case", CASES, ids=lambda case: case.name),
]


def build(case: Case, folder: Path, *, seed: int) -> nn.Module:
    """The module with weights of the seed; every floating number of its state is drawn, zeros included."""
    folder.mkdir()
    torch.manual_seed(seed)
    module = case.build(**copy.deepcopy(case.good(folder)))  # cases may share what they inject
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    return module


def same(first: nn.Module, second: nn.Module) -> bool:
    """Whether two modules hold the same names and the same numbers."""
    ours, theirs = first.state_dict(), second.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_state_dict_goes_around(case: Case, tmp_path: Path):
    trained, fresh = build(case, tmp_path / "a", seed=1), build(case, tmp_path / "b", seed=2)
    assert not any(True for _ in trained.parameters()) or not same(trained, fresh)
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert same(trained, fresh)


def test_a_copy_is_equal_and_its_own(case: Case, tmp_path: Path):
    module = build(case, tmp_path / "a", seed=1)
    twin = copy.deepcopy(module)
    assert type(twin) is type(module)
    assert same(module, twin)
    ours = {parameter.data_ptr() for parameter in module.parameters()}
    assert not ours & {parameter.data_ptr() for parameter in twin.parameters()}


def test_moves_to_bfloat16_and_back(case: Case, tmp_path: Path):
    """Buffers that must keep their precision, such as statistics, may stay as they are; weights follow."""
    module = build(case, tmp_path / "a", seed=1)
    names = list(module.state_dict())
    module.to(torch.bfloat16)
    assert {parameter.dtype for parameter in module.parameters() if parameter.is_floating_point()} <= {torch.bfloat16}
    module.to(torch.float32)
    assert list(module.state_dict()) == names
    assert all(bool(value.isfinite().all()) for value in module.state_dict().values() if value.is_floating_point())
