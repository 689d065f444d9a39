"""Laws of flow time: which noise levels training sees how often. Time 0 is the clean action, time 1 is noise."""

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from vla_kit.errors import SettingError

__all__ = ["BetaTime", "SigmoidNormalTime", "UniformTime"]


class UniformTime:
    """Every time in [0, 1) equally often.

    Examples:
        >>> import torch
        >>> UniformTime()(3, like=torch.zeros(1)).shape
        torch.Size([3])

    Source:
        Flow matching, arXiv 2210.02747. Qwen-VLA does not use it; it is the neutral baseline.
    """

    def __repr__(self) -> str:
        return "UniformTime()"

    def __call__(self, count: int, *, like: Tensor, generator: Generator | None = None) -> Float[Tensor, " count"]:
        """Draw `count` times with the dtype and device of `like`."""
        return _uniform(count, like, generator).to(like.dtype)


class SigmoidNormalTime:
    """Logit-normal: `sigmoid(mean + std * normal)`, most mass at middle noise levels.

    Args:
        mean: Mean before the sigmoid; above 0 favours noise, below 0 favours the clean action.
        std: Standard deviation before the sigmoid, above 0.

    Raises:
        SettingError: If `std` is not above 0, or a value is not finite.

    Examples:
        >>> import torch
        >>> times = SigmoidNormalTime()(1000, like=torch.zeros(1), generator=torch.Generator().manual_seed(0))
        >>> bool(((times > 0) & (times < 1)).all())
        True

    Source:
        Qwen-VLA, arXiv 2605.30280, section 5.2.1: the law of the text-to-action stage. The paper gives neither mean
        nor deviation; 0 and 1 are those of Stable Diffusion 3 (arXiv 2403.03206).
    """

    def __init__(self, *, mean: float = 0.0, std: float = 1.0) -> None:
        if not math.isfinite(mean):
            raise SettingError(f"mean must be finite, got {mean}. Use 0 for the symmetric law.")
        _check_positive("std", std)
        self.mean = mean
        self.std = std

    def __repr__(self) -> str:
        return f"SigmoidNormalTime(mean={self.mean}, std={self.std})"

    def __call__(self, count: int, *, like: Tensor, generator: Generator | None = None) -> Float[Tensor, " count"]:
        """Draw `count` times with the dtype and device of `like`."""
        normal = torch.randn(count, generator=generator, device=like.device, dtype=_at_least_float32(like.dtype))
        return torch.sigmoid(self.mean + self.std * normal).to(like.dtype)


class BetaTime:
    """`scale * Beta(alpha, beta)`; the default puts the mass at the clean end, as the paper says in words.

    Which end? Three published readings exist, and they disagree:

    - The paper says that Beta puts density at the clean end (small time): `alpha=1, beta=1.5`, the default here.
      Density falls from 1.5 at time 0 to 0 at time 1.
    - Two sentences later it says that gradients spread "more uniformly", which fits neither end in particular.
    - pi0 and the later Qwen-RobotManip put the mass at the noisy end: `alpha=1.5, beta=1` in our convention.

    Args:
        alpha: First shape of the Beta law, above 0.
        beta: Second shape of the Beta law, above 0. Swap the two to mirror the law.
        scale: Largest time, in (0, 1].

    Raises:
        SettingError: If a value is outside its range.

    Examples:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> clean = BetaTime()(10_000, like=torch.zeros(1), generator=generator).mean()
        >>> noisy = BetaTime(alpha=1.5, beta=1.0)(10_000, like=torch.zeros(1), generator=generator).mean()
        >>> round(clean.item(), 1), round(noisy.item(), 1)
        (0.4, 0.6)

    Source:
        Qwen-VLA, arXiv 2605.30280, section 5.2.1 names Beta for pretraining and fine-tuning, without its shapes.
        (1, 1.5) and 0.999 are pi0's (arXiv 2410.24164), in the direction of Qwen-VLA's words.
    """

    def __init__(self, *, alpha: float = 1.0, beta: float = 1.5, scale: float = 0.999) -> None:
        _check_positive("alpha", alpha)
        _check_positive("beta", beta)
        if not 0 < scale <= 1:
            raise SettingError(f"scale must be in (0, 1], got {scale}. The paper's neighbours use 0.999.")
        self.alpha = alpha
        self.beta = beta
        self.scale = scale

    def __repr__(self) -> str:
        return f"BetaTime(alpha={self.alpha}, beta={self.beta}, scale={self.scale})"

    def __call__(self, count: int, *, like: Tensor, generator: Generator | None = None) -> Float[Tensor, " count"]:
        """Draw `count` times with the dtype and device of `like`."""
        return (self.scale * self._unit(count, like, generator)).to(like.dtype)

    def _unit(self, count: int, like: Tensor, generator: Generator | None) -> Tensor:
        # torch.distributions.Beta ignores generators. With a shape of 1 the inverse distribution function is closed.
        if self.alpha == 1:
            return 1 - (1 - _uniform(count, like, generator)) ** (1 / self.beta)
        if self.beta == 1:
            return _uniform(count, like, generator) ** (1 / self.alpha)
        shapes = torch.tensor([[self.alpha], [self.beta]], dtype=_at_least_float32(like.dtype), device=like.device)
        first, second = torch._standard_gamma(shapes.expand(2, count), generator=generator)
        # Tiny shapes underflow: two exact zeros would divide to NaN.
        unit: Tensor = first / (first + second).clamp_min(torch.finfo(first.dtype).tiny)
        return unit


def _uniform(count: int, like: Tensor, generator: Generator | None) -> Tensor:
    return torch.rand(count, generator=generator, device=like.device, dtype=_at_least_float32(like.dtype))


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise SettingError(f"{name} must be above 0 and finite, got {value}. See the class docstring for defaults.")
