from torch import nn

from vla_kit.training.parameter_groups import parameter_groups


def test_groups_by_part_and_shape():
    parts = {"backbone": nn.Linear(2, 2), "head": nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))}
    groups = parameter_groups(parts, {"backbone": 1e-5, "head": 1e-4}, weight_decay=0.1)
    table = [(g["name"], g["part"], g["lr"], g["weight_decay"], len(g["params"])) for g in groups]
    assert table == [
        ("backbone", "backbone", 1e-5, 0.1, 1),
        ("backbone_vectors", "backbone", 1e-5, 0.0, 1),
        ("head", "head", 1e-4, 0.1, 1),
        ("head_vectors", "head", 1e-4, 0.0, 3),
    ]


def test_frozen_parameters_are_left_out():
    part = nn.Linear(2, 2)
    part.bias.requires_grad_(False)
    assert [g["name"] for g in parameter_groups({"head": part}, {"head": 1.0}, weight_decay=0.1)] == ["head"]
    assert parameter_groups({"head": part.requires_grad_(False)}, {"head": 1.0}, weight_decay=0.1) == []


def test_a_shared_parameter_belongs_to_the_first_part():
    shared = nn.Linear(2, 2, bias=False)
    groups = parameter_groups({"a": shared, "b": shared}, {"a": 1.0, "b": 2.0}, weight_decay=0.0)
    assert [g["part"] for g in groups] == ["a"]
