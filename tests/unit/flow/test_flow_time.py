import copy
import math

import numpy as np
import pytest
import torch

from vla_kit.errors import SettingError
from vla_kit.flow import BetaTime, SigmoidNormalTime, UniformTime
from vla_kit.protocols import TimeSampler

SAMPLERS = [
    UniformTime(),
    SigmoidNormalTime(),
    SigmoidNormalTime(mean=0.5, std=2.0),
    BetaTime(),
    BetaTime(alpha=1.5, beta=1.0),
    BetaTime(alpha=2.0, beta=3.0),
]
COUNT = 40_000


def draw(sampler: TimeSampler, *, seed: int = 0, like: torch.Tensor | None = None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return sampler(COUNT, like=torch.zeros(1) if like is None else like, generator=generator)


def beta_quantile(level: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    stats = pytest.importorskip("scipy.stats")
    return stats.beta(alpha, beta).ppf(level)


def normal_quantile(level: np.ndarray) -> np.ndarray:
    return torch.special.ndtri(torch.from_numpy(level)).numpy()


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_quantiles_match_the_closed_form(sampler):
    level = np.linspace(0.05, 0.95, 19)
    match sampler:
        case UniformTime():
            expected = level
        case SigmoidNormalTime():
            expected = 1 / (1 + np.exp(-(sampler.mean + sampler.std * normal_quantile(level))))
        case _:
            expected = 0.999 * beta_quantile(level, sampler.alpha, sampler.beta)
    found = np.quantile(draw(sampler).double().numpy(), level)
    np.testing.assert_allclose(found, expected, atol=0.012)  # 4 standard errors at 40,000 draws


def test_default_beta_leans_to_the_clean_end_and_the_swap_mirrors_it():
    clean, noisy = draw(BetaTime(scale=1.0)), draw(BetaTime(alpha=1.5, beta=1.0, scale=1.0))
    assert clean.mean().item() == pytest.approx(1 / 2.5, abs=0.01)  # alpha / (alpha + beta)
    assert noisy.mean().item() == pytest.approx(1.5 / 2.5, abs=0.01)


def test_scale_bounds_the_beta_law():
    assert draw(BetaTime(alpha=5.0, beta=1.0, scale=0.5)).max() <= 0.5


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_generator_decides_the_draw_and_the_global_state_does_not(sampler):
    torch.manual_seed(1)
    first = draw(sampler)
    torch.manual_seed(2)
    assert torch.equal(first, draw(sampler))
    assert not torch.equal(first, draw(sampler, seed=1))
    state = torch.get_rng_state()
    draw(sampler)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dtype_follows_like_and_range_holds(sampler, dtype):
    times = draw(sampler, like=torch.zeros(1, dtype=dtype))
    assert times.dtype == dtype
    assert times.shape == (COUNT,)
    assert times.min() >= 0
    assert times.max() <= 1


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_is_a_time_sampler_that_can_be_copied_and_draw_nothing(sampler):
    assert isinstance(sampler, TimeSampler)
    assert repr(copy.deepcopy(sampler)) == repr(sampler)
    assert sampler(0, like=torch.zeros(1)).shape == (0,)


def test_extreme_shapes_stay_finite():
    assert draw(BetaTime(alpha=1e-4, beta=2e-4)).isfinite().all()


@pytest.mark.gpu
@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_cuda_generator_decides_the_draw(sampler):
    def on_cuda() -> torch.Tensor:
        return sampler(100, like=torch.zeros(1, device="cuda"), generator=torch.Generator("cuda").manual_seed(0))

    assert torch.equal(on_cuda(), on_cuda())


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: SigmoidNormalTime(std=0.0), "std must be above 0 and finite, got 0.0"),
        (lambda: SigmoidNormalTime(mean=math.inf), "mean must be finite, got inf"),
        (lambda: BetaTime(alpha=0.0), "alpha must be above 0 and finite, got 0.0"),
        (lambda: BetaTime(beta=-1.0), "beta must be above 0 and finite, got -1.0"),
        (lambda: BetaTime(scale=1.5), r"scale must be in \(0, 1\], got 1.5"),
    ],
)
def test_settings_outside_their_range_raise(build, text):
    with pytest.raises(SettingError, match=text):
        build()
