"""The Euler sampler whose steps are noisy by as much as a network says (Flow-Noise, ReinFlow)."""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from vla_kit.flow._walk import Law, Step, check_settings, times, transitions, walk
from vla_kit.flow.stochastic_path import StochasticPath
from vla_kit.flow.transitions import GaussianTransitions

__all__ = ["LearnedNoiseEuler"]

_NoisyField = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class LearnedNoiseEuler:
    """Euler steps from time 1 to time 0 around which a network spreads noise of known density.

    The mean of a step is the step of `Euler`, its standard deviation what the field says beside the velocity, such as a
    `NoiseHead`. No drift takes back what the noise does, so the points have another distribution than those of the
    deterministic sampler: learning makes the two belong together. Velocity and noise are trained by the same loss. The
    noise is left out, `Euler`, when the policy has learned.

    The methods are those of `StochasticEuler`; the field gives two things.

    Args:
        steps: Number of steps, at least 1.
        stochastic_steps: "all" makes all steps noisy; "one" draws for each chunk the step that is.

    Raises:
        SettingError: If `steps` is below 1 or `stochastic_steps` unknown.

    Examples:
        >>> import torch
        >>> sampler = LearnedNoiseEuler(steps=4)
        >>> field = lambda noisy, time: (noisy, torch.full_like(noisy, 0.1))
        >>> mask = torch.ones(2, 3, 5, dtype=torch.bool)
        >>> path = sampler.sample(field, torch.randn(2, 3, 5), mask)
        >>> path.log_prob.shape, torch.equal(sampler.log_prob(field, path, mask), path.log_prob)
        (torch.Size([2, 4]), True)

    Source:
        ReinFlow, arXiv 2505.22094, and Flow-Noise of pi_RL, arXiv 2510.25889: noise at every step, and the density of
        the whole path. Not in Qwen-VLA.
    """

    def __init__(self, *, steps: int = 4, stochastic_steps: Literal["one", "all"] = "all") -> None:
        check_settings(steps, stochastic_steps)
        self.steps = steps
        self.stochastic_steps: Literal["one", "all"] = stochastic_steps

    def __repr__(self) -> str:
        return f"LearnedNoiseEuler(steps={self.steps}, stochastic_steps={self.stochastic_steps!r})"

    def sample(
        self,
        field: _NoisyField,
        noise: Float[Tensor, "batch horizon channel"],
        mask: Bool[Tensor, "batch horizon channel"],
        *,
        generator: Generator | None = None,
    ) -> StochasticPath:
        """Draw a chunk per row, and remember its noisy steps.

        Args:
            field: `field(noisy, time[batch]) -> (velocity, standard deviation)`, the latter above 0 at real entries.
            noise: Start at time 1; padding may hold anything.
            mask: True where an action entry is real.
            generator: Source of the noise of the steps and of their choice, on the device of `noise`.

        Returns:
            Actions and noisy steps, float32 or better; `steps` transitions per chunk, or 1.

        Raises:
            ShapeError: If `noise` and `mask` differ in shape.
        """
        law = self._law(field, mask)
        return walk(law, noise, mask, steps=self.steps, stochastic_steps=self.stochastic_steps, generator=generator)

    def transitions(
        self, field: _NoisyField, path: StochasticPath, mask: Bool[Tensor, "batch horizon channel"]
    ) -> GaussianTransitions:
        """The law of each stored step under this field: density, entropy and KL from one evaluation per transition.

        Args:
            field: `field(noisy, time[batch]) -> (velocity, standard deviation)`; gradients flow into it.
            path: What `sample` gave.
            mask: True where an action entry is real.

        Raises:
            SettingError: If the path has steps that this sampler has not.
        """
        return transitions(self._law(field, mask), path, mask, steps=self.steps)

    def log_prob(
        self, field: _NoisyField, path: StochasticPath, mask: Bool[Tensor, "batch horizon channel"]
    ) -> Float[Tensor, "batch transition"]:
        """Log-density of each stored step under this field; `transitions(...).log_prob(path.after)`."""
        return self.transitions(field, path, mask).log_prob(path.after)

    def kl(
        self,
        field: _NoisyField,
        reference: _NoisyField,
        path: StochasticPath,
        mask: Bool[Tensor, "batch horizon channel"],
    ) -> Float[Tensor, "batch transition"]:
        """Divergence of the stored steps from those of `reference`, at the points of the path, in nats."""
        return self.transitions(field, path, mask).kl(self.transitions(reference, path, mask))

    def _law(self, field: _NoisyField, mask: Bool[Tensor, "batch horizon channel"]) -> Law:
        def law(noisy: Tensor, step: Int[Tensor, " batch"]) -> Step:
            velocity, std = field(noisy, times(step, steps=self.steps, like=noisy))
            plain = noisy - torch.where(mask, velocity, 0) / self.steps
            return Step(plain=plain, mean=plain, std=torch.where(mask, std, 0).to(noisy.dtype))

        return law
