"""Chunks whose beginning is known: three ways to solve for the rest, for robots that act while they compute.

Each way is a part that turns a solver into one that knows the beginning; fields and samplers stay as they are.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vla_kit.errors import SettingError, ShapeError

__all__ = ["CleanPrefix", "GuidedPrefix", "HardPrefix", "prefix_weights"]

_Field = Callable[[Tensor, Tensor], Tensor]
_Solver = Callable[[_Field, Tensor], Tensor]


def prefix_weights(
    horizon: int, *, delay: Int[Tensor, " batch"], left: Int[Tensor, " batch"]
) -> Float[Tensor, "batch horizon"]:
    """How much each step of a new chunk has to agree with what is left of the chunk before.

    1 for the `delay` steps that will have been carried out when the new chunk is there; then falling, to 0 at `left`,
    the first step of which the chunk before says nothing.

    Args:
        horizon: Steps of the new chunk.
        delay: Steps that are carried out while the new chunk is computed, at most `left`.
        left: Steps of the chunk before that are left, counted from the first step of the new one.

    Returns:
        Weights in [0, 1].

    Examples:
        >>> prefix_weights(6, delay=torch.tensor([2]), left=torch.tensor([4])).round(decimals=3)
        tensor([[1.0000, 1.0000, 0.3680, 0.0770, 0.0000, 0.0000]])

    Source:
        Real-time chunking, arXiv 2506.07339, equation 5, with `left` = H - s: 1 below d, then
        `c (exp(c) - 1) / (e - 1)` with `c = (H - s - i) / (H - s - d + 1)`.
    """
    step = torch.arange(horizon, device=delay.device)
    share = ((left[:, None] - step) / (left - delay + 1)[:, None]).clamp(0, 1)
    return torch.where(step < delay[:, None], 1.0, share * share.expm1() / (math.e - 1))


class GuidedPrefix:
    """Pulls the whole chunk towards what is left of the chunk before; any trained policy will do.

    At each time the field's guess of the clean chunk, `noisy - time * velocity`, is compared with the known steps, and
    the gradient of their difference, weighted by `prefix_weights`, is taken off the velocity. That costs one pass
    backwards through the head per field evaluation. Steps are pulled, not fixed: the first `delay` come close to
    the known ones.

    Args:
        max_guidance: Largest factor of the gradient, above 0. The exact factor is infinite at both ends of the path,
            where few solver steps would overshoot.

    Raises:
        SettingError: If `max_guidance` is not above 0 and finite.

    Examples:
        >>> from vla_kit.flow import Euler
        >>> field = lambda noisy, time: noisy / time[:, None, None]  # all actions are 0
        >>> known, mask = torch.ones(1, 3, 1), torch.tensor([[[True], [True], [False]]])
        >>> solver = GuidedPrefix()(Euler(steps=4), known=known, mask=mask, delay=torch.tensor([1]))
        >>> solver(field, torch.zeros(1, 3, 1)).shape
        torch.Size([1, 3, 1])

    Source:
        Real-time chunking, arXiv 2506.07339, equations 2-5 and algorithm 1; 5 is its largest guidance weight. There
        time 0 is noise and 1 the action: with our `time = 1 - tau` and `velocity = -v`, equation 2's factor
        `min(beta, (1 - tau) / (tau r^2))`, `r^2 = (1 - tau)^2 / (tau^2 + (1 - tau)^2)`, is
        `min(beta, (time^2 + (1 - time)^2) / (time (1 - time)))`, and the correction is subtracted.
    """

    def __init__(self, *, max_guidance: float = 5.0) -> None:
        if not (math.isfinite(max_guidance) and max_guidance > 0):
            raise SettingError(f"max_guidance must be above 0 and finite, got {max_guidance}. Use 5.")
        self.max_guidance = max_guidance

    def __repr__(self) -> str:
        return f"GuidedPrefix(max_guidance={self.max_guidance})"

    def __call__(
        self,
        solver: _Solver,
        *,
        known: Float[Tensor, "batch horizon channel"],
        mask: Bool[Tensor, "batch horizon channel"],
        delay: Int[Tensor, " batch"],
    ) -> Any:  # noqa: ANN401 (a solver; jsonargparse takes a class whose call returns a type for a factory of it)
        """Solver that knows the beginning.

        Args:
            solver: Any `(field, noise) -> actions`.
            known: Normalised actions of the chunk before, from the first step of the new one on.
            mask: True where `known` holds a real entry: leading steps, and the channels of the robot.
            delay: Steps that will have been carried out when the new chunk is there.

        Returns:
            The solver; without known steps the one that was given. It must not run under `torch.inference_mode`.

        Raises:
            ShapeError: If shapes differ, or `delay` is not within the known steps.
        """
        left = _check(known, mask, delay)
        weights = prefix_weights(known.shape[1], delay=delay, left=left)[..., None] * mask
        if not bool(weights.any()):
            return solver
        target = torch.where(mask, known, 0)
        return lambda field, noise: solver(
            lambda noisy, time: self._velocity(field, noisy, time, target, weights), noise
        )

    def _velocity(self, field: _Field, noisy: Tensor, time: Tensor, known: Tensor, weights: Tensor) -> Tensor:
        if torch.is_inference_mode_enabled():
            raise SettingError(
                "GuidedPrefix must not run under torch.inference_mode(), which forbids gradients. Use torch.no_grad()."
            )
        span = time[:, None, None].to(noisy.dtype)
        with torch.enable_grad():
            point = noisy.detach().requires_grad_()
            velocity = field(point, time)
            clean = point - span * velocity
            (pull,) = torch.autograd.grad(clean, point, weights * (known - clean.detach()))
        factor = ((span**2 + (1 - span) ** 2) / (span * (1 - span))).clamp(max=self.max_guidance)
        return velocity.detach() - factor * pull


class HardPrefix:
    """Keeps the first `delay` steps exactly, by walking them along the straight path from their noise to them.

    The rest of the chunk sees them at the noise level of the moment. It costs nothing; the rest follows them less
    well than under `GuidedPrefix`, because nothing that is left behind them is used.

    Examples:
        >>> from vla_kit.flow import Euler
        >>> field = lambda noisy, time: noisy / time[:, None, None]  # all actions are 0
        >>> known, mask = torch.ones(1, 2, 1), torch.ones(1, 2, 1, dtype=torch.bool)
        >>> HardPrefix()(Euler(steps=4), known=known, mask=mask, delay=torch.tensor([1]))(field, torch.randn(1, 2, 1))
        tensor([[[1.],
                 [0.]]])

    Source:
        Replacement in-painting of diffusion models (RePaint, arXiv 2201.09865, without its resampling), on the straight
        path. It is the simple variant beside real-time chunking (arXiv 2506.07339), not part of it.
    """

    def __repr__(self) -> str:
        return "HardPrefix()"

    def __call__(
        self,
        solver: _Solver,
        *,
        known: Float[Tensor, "batch horizon channel"],
        mask: Bool[Tensor, "batch horizon channel"],
        delay: Int[Tensor, " batch"],
    ) -> Any:  # noqa: ANN401 (a solver; jsonargparse takes a class whose call returns a type for a factory of it)
        """Solver that keeps the beginning; with `delay` 0 it gives the bits of the one that was given.

        Args:
            solver: Any `(field, noise) -> actions` that integrates a constant field exactly, up to rounding.
            known: Normalised actions of the chunk before, from the first step of the new one on.
            mask: True where `known` holds a real entry: leading steps, and the channels of the robot.
            delay: Steps that will have been carried out when the new chunk is there.

        Returns:
            The solver.

        Raises:
            ShapeError: If shapes differ, or `delay` is not within the known steps.
        """
        keep = _committed(known, mask, delay)
        target = torch.where(keep, known, 0)

        def solve(field: _Field, noise: Tensor) -> Tensor:
            straight = noise - target
            actions = solver(lambda noisy, time: torch.where(keep, straight, field(noisy, time)), noise)
            return torch.where(keep, target, actions)

        return solve


class CleanPrefix:
    """Gives the head the first `delay` steps clean, at time 0; for heads that were trained with such beginnings.

    Train with `FlowMatchingLoss(max_delay=...)`, and use a head that takes a time per step, such as `DiTHead`. Sampling
    costs what it costs without a prefix.

    Examples:
        >>> from vla_kit.flow import Euler
        >>> seen = []
        >>> field = lambda noisy, time: seen.append(time) or torch.zeros_like(noisy)
        >>> known, mask = torch.ones(1, 2, 1), torch.ones(1, 2, 1, dtype=torch.bool)
        >>> solver = CleanPrefix()(Euler(steps=1), known=known, mask=mask, delay=torch.tensor([1]))
        >>> solver(field, torch.full((1, 2, 1), 3.0)), seen
        (tensor([[[1.],
                  [3.]]]), [tensor([[0., 1.]])])

    Source:
        Training-time action conditioning for real-time chunking, arXiv 2512.05964. There the clean time is 1.
    """

    def __repr__(self) -> str:
        return "CleanPrefix()"

    def __call__(
        self,
        solver: _Solver,
        *,
        known: Float[Tensor, "batch horizon channel"],
        mask: Bool[Tensor, "batch horizon channel"],
        delay: Int[Tensor, " batch"],
    ) -> Any:  # noqa: ANN401 (a solver; jsonargparse takes a class whose call returns a type for a factory of it)
        """Solver whose field is told the beginning.

        Args:
            solver: Any `(field, noise) -> actions`.
            known: Normalised actions of the chunk before, from the first step of the new one on.
            mask: True where `known` holds a real entry: leading steps, and the channels of the robot.
            delay: Steps that will have been carried out when the new chunk is there.

        Returns:
            The solver, which asks the field at a time per step; where `delay` is 0 throughout, the one that was given.

        Raises:
            ShapeError: If shapes differ, or `delay` is not within the known steps.
        """
        keep = _committed(known, mask, delay)
        steps = keep.any(-1)
        if not bool(steps.any()):
            return solver
        target = torch.where(keep, known, 0)

        def solve(field: _Field, noise: Tensor) -> Tensor:
            def told(noisy: Tensor, time: Tensor) -> Tensor:
                velocity = field(torch.where(keep, target, noisy), torch.where(steps, 0, time[:, None]))
                return torch.where(keep, 0, velocity)

            return torch.where(keep, target, solver(told, noise))

        return solve


def _check(known: Tensor, mask: Tensor, delay: Tensor) -> Int[Tensor, " batch"]:
    """Known steps of each sample, after a check."""
    if mask.shape != known.shape or delay.shape != known.shape[:1]:
        raise ShapeError(
            f"mask and delay must have the shapes {tuple(known.shape)} and {tuple(known.shape[:1])} of known, got "
            f"{tuple(mask.shape)} and {tuple(delay.shape)}. Give one delay per chunk."
        )
    left = mask.any(-1).sum(-1)
    if bool(((delay < 0) | (delay > left)).any()):
        raise ShapeError(
            f"delay must lie within the known steps {left.tolist()}, got {delay.tolist()}. "
            "Ask for a new chunk before the old one is used up."
        )
    return left


def _committed(known: Tensor, mask: Tensor, delay: Tensor) -> Bool[Tensor, "batch horizon channel"]:
    _check(known, mask, delay)
    return mask & (torch.arange(known.shape[1], device=delay.device) < delay[:, None])[..., None]
