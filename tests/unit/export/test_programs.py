"""Tracing, on graphs small enough to see through."""

import pytest
import torch
from torch import nn

from vla_kit.errors import ExportError
from vla_kit.export.programs import open_onnx, open_torch, trace, write_onnx, write_torch

AXES = {"first": ("batch", "token"), "second": ("batch", "token")}


class Sum(nn.Module):
    def forward(self, **inputs):
        return inputs["first"] + 2 * inputs["second"]


class OfFourTokens(nn.Module):
    """Unrolls a loop over tokens, as some attention does over chunks of them."""

    def forward(self, **inputs):
        total = inputs["second"][:, :1]
        for place in range(int(inputs["first"].shape[1])):
            total = total + inputs["first"][:, place : place + 1]
        return total


class Looks(nn.Module):
    def forward(self, **inputs):
        return inputs["first"] if inputs["second"].sum() > 0 else inputs["second"]


class Order(nn.Module):
    """Eigenvalues have no counterpart in ONNX."""

    def forward(self, **inputs):
        return torch.linalg.eigvals(inputs["first"][:, :2].mT @ inputs["second"][:, :2]).real


@pytest.fixture
def inputs():
    return {"second": torch.arange(8.0).reshape(2, 4), "first": torch.ones(2, 4)}


def test_batch_and_tokens_may_be_of_any_length(inputs, tmp_path):
    program, any_length, notes = trace(Sum(), inputs, axes=AXES, longest={"token": 8})
    assert (any_length, notes) == (("batch", "token"), [])
    write_torch(program, tmp_path / "sum.pt2")
    write_onnx(program, inputs, tmp_path / "sum.onnx")
    other = {"first": torch.full((1, 3), 5.0), "second": torch.tensor([[1.0, 2.0, 3.0]])}
    for open_program, name in ((open_torch, "sum.pt2"), (open_onnx, "sum.onnx")):
        assert open_program(tmp_path / name)(other).tolist() == [[7.0, 9.0, 11.0]]


def test_tokens_are_fixed_where_their_number_shapes_the_graph(inputs, tmp_path):
    program, any_length, notes = trace(OfFourTokens(), inputs, axes=AXES, longest={"token": 8})
    assert any_length == ("batch",)
    assert len(notes) == 1
    assert notes[0].startswith("batch and token of any length: UserError: ")
    write_torch(program, tmp_path / "four.pt2")
    assert open_torch(tmp_path / "four.pt2")({name: tensor[:1] for name, tensor in inputs.items()}).tolist() == [[4.0]]


def test_a_program_refuses_samples_that_do_not_belong_together(inputs, tmp_path):
    program, _, _ = trace(Sum(), inputs, axes=AXES, longest={"token": 8})
    write_torch(program, tmp_path / "sum.pt2")
    with pytest.raises((AssertionError, RuntimeError)):
        open_torch(tmp_path / "sum.pt2")(inputs | {"first": torch.ones(3, 4)})


def test_a_graph_that_looks_at_values_is_refused(inputs):
    with pytest.raises(ExportError, match=r"graph must be one that torch\.export can trace, got GuardOnDataDependent"):
        trace(Looks(), inputs, axes=AXES, longest={"token": 8})


def test_an_operation_that_onnx_does_not_know_is_refused(inputs, tmp_path):
    program, _, _ = trace(Order(), inputs, axes=AXES, longest={"token": 8})
    with pytest.raises(ExportError, match="program must hold operations of ONNX alone, got"):
        write_onnx(program, inputs, tmp_path / "order.onnx")
