import torch
from torch import nn

from vla_kit.backbones._wrapping import hide_in_state_dict


class Around(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        hide_in_state_dict(self, "inner")


def test_keys_are_those_of_the_inner_module_at_any_depth():
    model = nn.ModuleDict({"first": Around(), "second": nn.Linear(2, 1)})
    names = {f"first.{name}" for name in model["first"].inner.state_dict()}
    assert set(model.state_dict()) == names | {"second.weight", "second.bias"}
    other = nn.ModuleDict({"first": Around(), "second": nn.Linear(2, 1)})
    other.load_state_dict(model.state_dict())
    assert torch.equal(other["first"].inner[0].weight, model["first"].inner[0].weight)
