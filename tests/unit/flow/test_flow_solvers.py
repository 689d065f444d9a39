import copy

import pytest
import torch

from vla_kit.errors import SettingError
from vla_kit.flow import Euler, Heun

MEAN, STD = 0.7, 0.3


def gaussian_velocity(noisy: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """Expected `noise - action` at a point of the path, for actions from N(MEAN, STD^2): linear regression."""
    time = time.view(-1, *[1] * (noisy.ndim - 1))
    variance = (1 - time) ** 2 * STD**2 + time**2
    covariance = time - (1 - time) * STD**2
    return -MEAN + covariance / variance * (noisy - (1 - time) * MEAN)


def error(solver: Euler | Heun) -> float:
    noise = torch.linspace(-2, 2, 9, dtype=torch.double).view(9, 1, 1)
    # The flow of this field maps N(0, 1) onto N(MEAN, STD^2) quantile by quantile.
    return (solver(gaussian_velocity, noise) - (MEAN + STD * noise)).abs().max().item()


def test_euler_step_by_hand():
    # velocity = noisy * time: 8 - 8*1/2 = 4 at time 1/2, then 4 - 4*(1/2)/2 = 3.
    actions = Euler(steps=2)(lambda noisy, time: noisy * time[:, None], torch.tensor([[8.0]]))
    assert actions.item() == 3.0


def test_heun_step_by_hand():
    # One step: here = 8*1, there = (8 - 8)*0 = 0, so 8 - (8 + 0)/2 = 4.
    actions = Heun(steps=1)(lambda noisy, time: noisy * time[:, None], torch.tensor([[8.0]]))
    assert actions.item() == 4.0


@pytest.mark.parametrize(("solver", "order"), [(Euler, 1), (Heun, 2)])
def test_gaussian_transport_converges_with_the_order_of_the_solver(solver, order):
    coarse, fine = error(solver(steps=64)), error(solver(steps=128))
    assert coarse / fine == pytest.approx(2**order, rel=0.15)
    assert fine < 0.02


@pytest.mark.parametrize("solver", [Euler(steps=1), Euler(steps=4), Heun(steps=3)], ids=repr)
def test_a_constant_field_is_integrated_exactly(solver):
    noise = torch.randn(2, 3, 4, dtype=torch.double)
    torch.testing.assert_close(solver(lambda noisy, time: torch.full_like(noisy, 2.0), noise), noise - 2)


def test_fields_are_asked_at_these_times():
    def times_of(solver: Euler | Heun) -> list[float]:
        asked = []

        def field(noisy: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            assert time.shape == (3,)
            asked.append(time[0].item())
            return torch.zeros_like(noisy)

        solver(field, torch.zeros(3, 1, 1))
        return asked

    assert times_of(Euler(steps=4)) == [1.0, 0.75, 0.5, 0.25]
    assert times_of(Heun(steps=2)) == [1.0, 0.5, 0.5, 0.0]


@pytest.mark.parametrize("solver", [Euler(steps=3), Heun(steps=3)], ids=repr)
def test_half_precision_keeps_time_exact_and_noise_untouched(solver):
    noise = torch.randn(2, 3, 4, dtype=torch.bfloat16)
    before = noise.clone()

    def field(noisy: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        assert time.dtype == torch.float32
        return noisy

    assert solver(field, noise).dtype == torch.bfloat16
    assert torch.equal(noise, before)
    assert copy.deepcopy(solver).steps == 3


@pytest.mark.parametrize("solver", [Euler, Heun])
def test_no_steps_raise(solver):
    with pytest.raises(SettingError, match="steps must be at least 1, got 0"):
        solver(steps=0)
