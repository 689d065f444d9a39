"""The Euler sampler with Gaussian steps of known density, for reinforcement learning of a flow policy (Flow-SDE)."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from vla_kit.errors import SettingError
from vla_kit.flow._walk import Law, Step, check_settings, times, transitions, walk
from vla_kit.flow.stochastic_path import StochasticPath
from vla_kit.flow.transitions import GaussianTransitions

__all__ = ["StochasticEuler"]


class StochasticEuler:
    """Euler steps from time 1 to time 0, one of them or all with noise whose density is known.

    Noise is added and what it does to the marginals is taken back by a drift along the score, which a velocity field
    knows: `-(noisy + (1 - time) * velocity) / time`. In the limit of small steps the points at each time have the same
    distribution as those of the deterministic sampler; with few steps they do so approximately. A step of length
    `delta = 1 / steps` from `time` is normal, with

        clean = noisy - time * velocity
        noise = noisy + (1 - time) * velocity
        mean = (1 - time + delta) * clean + (time - delta - sigma^2 * delta / (2 * time)) * noise
        std = sigma * sqrt(delta)
        sigma = noise_level * sqrt(time / (1 - time))

    At time 1 the denominator of `sigma` is that of the next time. Steps without noise are those of `Euler`. The field
    is never asked at time 0.

    The first noise is the caller's: standard normal, times a temperature where one is wanted (as in `sample_actions`).
    A temperature below 1 makes chunks more alike by the first noise alone; the noise of the steps stays. Densities are
    conditional on the first noise, so they stay exact and a ratio of two policies does too.

    Args:
        steps: Number of steps, at least 1.
        noise_level: Factor of the noise, above 0. More explores more, and moves the points of few steps further off.
        stochastic_steps: "one" draws for each chunk the step that is noisy; "all" makes all noisy.

    Raises:
        SettingError: If `steps` is below 1, `noise_level` not above 0 and finite, or `stochastic_steps` unknown.

    Examples:
        >>> import torch
        >>> sampler = StochasticEuler(steps=4)
        >>> field = lambda noisy, time: noisy
        >>> mask = torch.ones(2, 3, 5, dtype=torch.bool)
        >>> path = sampler.sample(field, torch.randn(2, 3, 5), mask)
        >>> torch.equal(sampler.log_prob(field, path, mask), path.log_prob)
        True

    Source:
        Qwen-VLA, arXiv 2605.30280, section 4.2: the ODE as an SDE, log-probabilities of one random step per rollout.
        It gives neither the level of the noise nor the number of steps, and does not say whether steps that do not
        enter the ratio are noisy. Formulas, steps without noise, the denominator at time 1 and the level 0.5 are
        those of RLinf's Flow-SDE (pi_RL, arXiv 2510.25889), in the same time convention.
    """

    def __init__(
        self, *, steps: int = 4, noise_level: float = 0.5, stochastic_steps: Literal["one", "all"] = "one"
    ) -> None:
        check_settings(steps, stochastic_steps)
        if not (math.isfinite(noise_level) and noise_level > 0):
            raise SettingError(f"noise_level must be above 0 and finite, got {noise_level}. Use 0.5, or Euler for 0.")
        self.steps = steps
        self.noise_level = noise_level
        self.stochastic_steps: Literal["one", "all"] = stochastic_steps

    def __repr__(self) -> str:
        return (
            f"StochasticEuler(steps={self.steps}, noise_level={self.noise_level}, "
            f"stochastic_steps={self.stochastic_steps!r})"
        )

    def sample(
        self,
        field: Callable[[Tensor, Tensor], Tensor],
        noise: Float[Tensor, "batch horizon channel"],
        mask: Bool[Tensor, "batch horizon channel"],
        *,
        generator: Generator | None = None,
    ) -> StochasticPath:
        """Draw a chunk per row, and remember its noisy steps.

        Args:
            field: `field(noisy, time[batch]) -> velocity`.
            noise: Start at time 1; padding may hold anything.
            mask: True where an action entry is real.
            generator: Source of the noise of the steps and of their choice, on the device of `noise`.

        Returns:
            Actions and noisy steps, float32 or better; 1 transition per chunk, or `steps`.

        Raises:
            ShapeError: If `noise` and `mask` differ in shape.
        """
        return walk(
            self._law(field, mask),
            noise,
            mask,
            steps=self.steps,
            stochastic_steps=self.stochastic_steps,
            generator=generator,
        )

    def transitions(
        self,
        field: Callable[[Tensor, Tensor], Tensor],
        path: StochasticPath,
        mask: Bool[Tensor, "batch horizon channel"],
    ) -> GaussianTransitions:
        """The law of each stored step under this field: density, entropy and KL from one evaluation per transition.

        Args:
            field: `field(noisy, time[batch]) -> velocity`, with these or other weights; gradients flow into it.
            path: What `sample` gave.
            mask: True where an action entry is real.

        Raises:
            SettingError: If the path has steps that this sampler has not.
        """
        return transitions(self._law(field, mask), path, mask, steps=self.steps)

    def log_prob(
        self,
        field: Callable[[Tensor, Tensor], Tensor],
        path: StochasticPath,
        mask: Bool[Tensor, "batch horizon channel"],
    ) -> Float[Tensor, "batch transition"]:
        """Log-density of each stored step under this field; `transitions(...).log_prob(path.after)`."""
        return self.transitions(field, path, mask).log_prob(path.after)

    def kl(
        self,
        field: Callable[[Tensor, Tensor], Tensor],
        reference: Callable[[Tensor, Tensor], Tensor],
        path: StochasticPath,
        mask: Bool[Tensor, "batch horizon channel"],
    ) -> Float[Tensor, "batch transition"]:
        """Divergence of the stored steps of this field from those of `reference`, at the points of the path, in nats.

        Args:
            field: The policy.
            reference: The policy that it should stay close to, as before reinforcement learning.
            path: What `sample` gave.
            mask: True where an action entry is real.
        """
        return self.transitions(field, path, mask).kl(self.transitions(reference, path, mask))

    def deviations(self) -> Float[Tensor, " step"]:
        """Standard deviation of each step when it is noisy, the first begins at time 1."""
        return torch.tensor([self._deviation(number) for number in range(self.steps)])

    def _deviation(self, number: int) -> float:
        time = 1 - number / self.steps
        clean_share = 1 - time if number else 1 / self.steps
        return self.noise_level * math.sqrt(time / clean_share / self.steps)

    def _law(self, field: Callable[[Tensor, Tensor], Tensor], mask: Bool[Tensor, "batch horizon channel"]) -> Law:
        deviations = [self._deviation(number) for number in range(self.steps)]

        def law(noisy: Tensor, step: Int[Tensor, " batch"]) -> Step:
            time = times(step, steps=self.steps, like=noisy)
            velocity = torch.where(mask, field(noisy, time), 0)
            plain = noisy - velocity / self.steps
            std = torch.tensor(deviations, dtype=noisy.dtype, device=noisy.device)[step][:, None, None]
            span = time[:, None, None]
            # (1 - time + delta) * clean + (time - delta) * noise is the plain step.
            mean = plain - std.square() / (2 * span) * (noisy + (1 - span) * velocity)
            return Step(plain=plain, mean=mean, std=std)

        return law
