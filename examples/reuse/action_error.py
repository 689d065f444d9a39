"""Metrics in somebody else's validation: the error of each channel in its own unit, for two robots in one batch.

Run: python examples/reuse/action_error.py (5 seconds on one CPU core)

`ActionError` and `SuccessRate` are torchmetrics: they sum over batches and processes, and a LightningModule may log
them. A mean over a padded tensor would mix metres, radians and padding; here no padding counts, whatever it holds.
"""

import sys

import torch

from vla_kit.actions import ActionSpace, ChannelGroup, MaskedActions
from vla_kit.metrics.action_error import ActionError
from vla_kit.metrics.success import SuccessRate

ARM = ActionSpace(
    [
        ChannelGroup("position", kind="eef_position", reference="delta", unit="m", count=3),
        ChannelGroup("gripper", kind="gripper", reference="absolute", unit="0 closed, 1 open", normalized=False),
    ]
)
BASE = ActionSpace([ChannelGroup("waypoint", kind="waypoint", reference="delta", unit="m", count=2)])


def their_policy(truth: torch.Tensor) -> torch.Tensor:
    """Stands for any network: 1 cm off in x, 2 cm in y, and garbage where there is no action to predict."""
    guess = truth.clone()
    guess[..., 0] += 0.01
    guess[..., 1] -= 0.02
    return torch.where(truth.isnan(), 1e9, guess)


torch.manual_seed(0)
error, success = ActionError({"arm": ARM, "base": BASE}), SuccessRate()
for _ in range(10):  # validation batches
    chunks = MaskedActions.pad([torch.rand(16, 4), torch.rand(8, 2)], channels=8)
    truth = torch.where(chunks.mask, chunks.values, torch.nan)
    error.update(their_policy(truth), truth, chunks.mask, ["arm", "base"])
    success.update(torch.rand(5) < 0.8)  # five episodes of a closed loop

named = {name: channel.unit for space in (ARM, BASE) for name, channel in zip(space.names, space.channels, strict=True)}
for name, value in error.compute().items():
    unit = named.get(name.partition("/")[2], "mean of all channels")
    sys.stdout.write(f"{name}: {value:.3f} {unit}\n")
rate = success.compute()
sys.stdout.write(f"success {rate['rate']:.2f} ({rate['low']:.2f} to {rate['high']:.2f}, n = {rate['trials']})\n")
