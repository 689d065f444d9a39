"""Flow matching without a policy: their own small network learns to draw points on two half-circles.

Run: python examples/reuse/flow_path.py (10 seconds on one CPU core)

Path, law of times and solvers know nothing of actions or of our heads: any tensors, any network. Time 0 is data and
time 1 is noise; for code that runs the other way, give the network `1 - time` and turn the sign of its answer.
"""

import sys

import torch
from torch import Tensor, nn

from vla_kit.flow import Euler, Heun, UniformTime, interpolate, target_velocity


def two_moons(count: int) -> Tensor:
    """Points [count, 2] on an upper and a lower half-circle of radius 1."""
    angle = torch.rand(count) * torch.pi
    upper = torch.stack([angle.cos(), angle.sin()], dim=1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], dim=1)
    return torch.where(torch.rand(count, 1) < 0.5, upper, lower)


def distance(points: Tensor) -> float:
    """Mean distance to the nearest of many true points."""
    return torch.cdist(points, two_moons(5000)).min(dim=1).values.mean().item()


class TheirNetwork(nn.Module):
    """A velocity field in the plane."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 2))

    def forward(self, points: Tensor, time: Tensor) -> Tensor:
        """Velocities of points [batch, 2] at times [batch]."""
        return self.layers(torch.cat([points, time[:, None]], dim=1))


torch.manual_seed(0)
network, times = TheirNetwork(), UniformTime()
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
for _ in range(1500):
    data = two_moons(256)
    noise, time = torch.randn_like(data), times(len(data), like=data)
    error = network(interpolate(data, noise, time), time) - target_velocity(data, noise)
    optimizer.zero_grad()
    error.square().mean().backward()
    optimizer.step()

noise = torch.randn(2000, 2)
sys.stdout.write(f"noise: {distance(noise):.3f} from the moons\n")
for solver in (Euler(steps=4), Euler(steps=16), Heun(steps=8)):
    with torch.inference_mode():
        sys.stdout.write(f"{solver}: {distance(solver(network, noise)):.3f}\n")
