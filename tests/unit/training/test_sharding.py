from torch import nn

from vla_kit.training.sharding import ShardedStrategy, sharding_units


class Layer(nn.Linear):
    """A layer that transformers would not split."""


class Model(nn.Module):
    _no_split_modules = ("Layer",)

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Layer(2, 2) for _ in range(3))
        self.rest = nn.Linear(2, 2)


def test_layers_are_units_and_the_part_is_the_last():
    part = nn.Sequential(Model())
    *layers, last = sharding_units(part)
    assert layers == list(part[0].layers)
    assert last is part


def test_a_part_without_known_layers_is_one_unit():
    part = nn.Linear(2, 2)
    assert sharding_units(part) == [part]


def test_the_strategy_restores_weights_once_they_are_divided():
    assert ShardedStrategy().restore_checkpoint_after_setup
