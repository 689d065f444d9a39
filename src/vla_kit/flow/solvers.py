"""ODE solvers that carry noise (time 1) to an action (time 0) along a velocity field."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from vla_kit.errors import SettingError

__all__ = ["Euler", "Heun", "Midpoint"]


class Euler:
    """First-order steps of equal length from time 1 to time 0; one field evaluation each.

    Args:
        steps: Number of steps, at least 1.

    Raises:
        SettingError: If `steps` is below 1.

    Examples:
        The field of the straight path to a known action is solved exactly by one step:

        >>> import torch
        >>> action = torch.tensor([[[0.5]]])
        >>> field = lambda noisy, time: (noisy - action) / time[:, None, None]
        >>> Euler(steps=1)(field, torch.ones(1, 1, 1))
        tensor([[[0.5000]]])

    Source:
        Qwen-VLA, arXiv 2605.30280, section 2.5: "a few" Euler steps from tau = 1 to 0. The count is not given; 4 is
        that of GR00T N1.5 and Qwen-RobotManip, 10 that of pi0.
    """

    def __init__(self, *, steps: int = 4) -> None:
        _check_steps(steps)
        self.steps = steps

    def __repr__(self) -> str:
        return f"Euler(steps={self.steps})"

    def __call__(
        self,
        field: Callable[[Tensor, Tensor], Tensor],
        noise: Float[Tensor, "batch ..."],
    ) -> Float[Tensor, "batch ..."]:
        """Integrate `field(noisy, time[batch]) -> velocity` from `noise` at time 1 to the action at time 0."""
        noisy = noise
        for step in range(self.steps):
            noisy = noisy - field(noisy, _time(noisy, 1 - step / self.steps)) / self.steps
        return noisy


class Heun:
    """Second-order steps of equal length from time 1 to time 0; two field evaluations each.

    Args:
        steps: Number of steps, at least 1.

    Raises:
        SettingError: If `steps` is below 1.

    Examples:
        >>> import torch
        >>> round(Heun(steps=8)(lambda noisy, time: noisy, torch.ones(1, 1, 1)).item(), 2)  # 1 / e
        0.37

    Source:
        Not in Qwen-VLA, which uses Euler; Heun's method as in EDM (arXiv 2206.00364, algorithm 1), without its
        first-order last step, because the field is defined at time 0.
    """

    def __init__(self, *, steps: int = 4) -> None:
        _check_steps(steps)
        self.steps = steps

    def __repr__(self) -> str:
        return f"Heun(steps={self.steps})"

    def __call__(
        self,
        field: Callable[[Tensor, Tensor], Tensor],
        noise: Float[Tensor, "batch ..."],
    ) -> Float[Tensor, "batch ..."]:
        """Integrate `field(noisy, time[batch]) -> velocity` from `noise` at time 1 to the action at time 0."""
        noisy = noise
        for step in range(self.steps):
            here = field(noisy, _time(noisy, 1 - step / self.steps))
            there = field(noisy - here / self.steps, _time(noisy, 1 - (step + 1) / self.steps))
            noisy = noisy - (here + there) / (2 * self.steps)
        return noisy


class Midpoint:
    """Second-order steps of equal length from time 1 to time 0; two field evaluations each, none at time 0.

    Where `Heun` averages the velocities at both ends of a step, this takes the one in the middle. The field is never
    asked at time 0, so it suits heads that divide by the time, such as `AnchoredHead`.

    Args:
        steps: Number of steps, at least 1.

    Raises:
        SettingError: If `steps` is below 1.

    Examples:
        >>> import torch
        >>> round(Midpoint(steps=8)(lambda noisy, time: noisy, torch.ones(1, 1, 1)).item(), 2)  # 1 / e
        0.37

    Source:
        Not in Qwen-VLA, which uses Euler; the explicit midpoint method (Runge, 1895), the default of flow_matching.
    """

    def __init__(self, *, steps: int = 4) -> None:
        _check_steps(steps)
        self.steps = steps

    def __repr__(self) -> str:
        return f"Midpoint(steps={self.steps})"

    def __call__(
        self,
        field: Callable[[Tensor, Tensor], Tensor],
        noise: Float[Tensor, "batch ..."],
    ) -> Float[Tensor, "batch ..."]:
        """Integrate `field(noisy, time[batch]) -> velocity` from `noise` at time 1 to the action at time 0."""
        noisy = noise
        for step in range(self.steps):
            here = field(noisy, _time(noisy, 1 - step / self.steps))
            middle = noisy - here / (2 * self.steps)
            noisy = noisy - field(middle, _time(noisy, 1 - (step + 0.5) / self.steps)) / self.steps
        return noisy


def _time(noisy: Tensor, value: float) -> Tensor:
    # Time stays at float32 or better: bf16 would shift the noise level that the network is told.
    dtype = torch.promote_types(noisy.dtype, torch.float32)
    return torch.full((noisy.shape[0],), value, dtype=dtype, device=noisy.device)


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise SettingError(f"steps must be at least 1, got {steps}. Use 4 to 10 for action chunks.")
