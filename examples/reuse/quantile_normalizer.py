"""Give your own policy a scaling that travels in its checkpoint: only the normaliser comes from vla-kit.

Run: python examples/reuse/quantile_normalizer.py
"""

import io

import torch
from torch import Tensor, nn

from vla_kit.actions import ActionSpace, ChannelGroup, MaskedActions, QuantileNormalizer, QuantileStats

JOINTS = ChannelGroup("joint", kind="joint", reference="absolute", unit="degree", count=2)
GRIPPER = ChannelGroup("gripper", kind="gripper", reference="absolute", unit="0 closed, 1 open", normalized=False)
ARM = ActionSpace([JOINTS, GRIPPER])


class MyPolicy(nn.Module):
    """Somebody else's policy, which now owns a normaliser: native actions in training, native actions out."""

    def __init__(self) -> None:
        super().__init__()
        self.normalizer = QuantileNormalizer()  # filled with `add`, or by `load_state_dict`
        self.layers = nn.Sequential(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, ARM.size))

    def loss(self, state: Tensor, native: Tensor) -> Tensor:
        """Mean squared error on the normalised scale, where every joint weighs the same."""
        target = self.normalizer.normalize(MaskedActions.pad([native], channels=ARM.size), ["my_arm"])
        return (self.layers(state) - target.values[0]).square().mean()

    def act(self, state: Tensor) -> Tensor:
        """State [step, 2] -> native actions [step, 3]."""
        prediction = MaskedActions.pad([self.layers(state).detach()], channels=ARM.size)
        return self.normalizer.denormalize(prediction, ["my_arm"]).cut(ARM)[0]


def main() -> None:
    """Train on joints of very different range, save, load into a bare policy and compare."""
    torch.manual_seed(0)
    state = torch.rand(500, 2)
    native = torch.stack([170 * state[:, 0], 1 + 0.02 * state[:, 1], (state.sum(dim=1) > 1).float()], dim=1)
    policy = MyPolicy()
    policy.normalizer.add("my_arm", QuantileStats.from_frames(native), ARM)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3)
    for _ in range(1000):
        optimizer.zero_grad()
        policy.loss(state, native).backward()
        optimizer.step()
    torch.save(policy.state_dict(), file := io.BytesIO())
    file.seek(0)
    loaded = MyPolicy()
    loaded.load_state_dict(torch.load(file, weights_only=True))
    print("loaded:", loaded.normalizer, "same actions:", torch.equal(loaded.act(state), policy.act(state)))
    print("native error per channel:", [f"{e:.4f}" for e in (loaded.act(state) - native).abs().mean(dim=0).tolist()])


if __name__ == "__main__":
    main()
