import copy
import math

import pytest
import torch
from gaussian_flow import MEAN, STD
from gaussian_flow import velocity as gaussian_velocity

from vla_kit.errors import SettingError
from vla_kit.flow import Euler, Heun, Midpoint


def error(solver: Euler | Heun | Midpoint) -> float:
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


def test_midpoint_step_by_hand():
    # One step: here = 8*1, so 8 - 8/2 = 4 at time 1/2, whose velocity is 4*1/2 = 2: 8 - 2 = 6.
    actions = Midpoint(steps=1)(lambda noisy, time: noisy * time[:, None], torch.tensor([[8.0]]))
    assert actions.item() == 6.0


@pytest.mark.parametrize("solver", [Euler(steps=4), Heun(steps=3), Midpoint(steps=3)], ids=repr)
def test_a_sample_alone_gives_what_it_gives_in_a_batch(solver):
    noise = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    together = solver(gaussian_velocity, noise)
    assert all(torch.equal(solver(gaussian_velocity, noise[row : row + 1])[0], together[row]) for row in range(5))


@pytest.mark.parametrize("solver", [Heun(steps=4), Midpoint(steps=4)], ids=repr)
def test_second_order_solvers_agree_with_an_independent_one(solver):
    """scipy's adaptive integrator of the same field, far more exact than four steps."""
    integrate = pytest.importorskip("scipy.integrate")
    noise = torch.tensor([[[-1.5]], [[0.25]], [[2.0]]], dtype=torch.double)

    def derivative(time, flat):
        noisy = torch.from_numpy(flat).view(3, 1, 1)
        return gaussian_velocity(noisy, torch.full((3,), time, dtype=torch.double)).flatten().numpy()

    exact = integrate.solve_ivp(derivative, (1.0, 0.0), noise.flatten().numpy(), rtol=1e-10, atol=1e-12).y[:, -1]
    assert (solver(gaussian_velocity, noise).flatten() - torch.from_numpy(exact)).abs().max() < 0.03


@pytest.mark.parametrize(("solver", "order"), [(Euler, 1), (Heun, 2)])
def test_gaussian_transport_converges_with_the_order_of_the_solver(solver, order):
    coarse, fine = error(solver(steps=64)), error(solver(steps=128))
    assert coarse / fine == pytest.approx(2**order, rel=0.15)
    assert fine < 0.02


def test_midpoint_is_of_second_order_and_closer_than_heun_on_gaussian_transport():
    # On the Gaussian field the leading error of the midpoint method cancels: its order shows on noisy*time.
    def error_of(steps: int) -> float:
        start = torch.ones(1, 1, dtype=torch.double)
        return abs(Midpoint(steps=steps)(lambda noisy, time: noisy * time[:, None], start).item() - math.exp(-0.5))

    assert error_of(32) / error_of(64) == pytest.approx(4, rel=0.1)
    assert error(Midpoint(steps=8)) < error(Heun(steps=8)) / 5


@pytest.mark.parametrize("solver", [Euler(steps=1), Euler(steps=4), Heun(steps=3), Midpoint(steps=3)], ids=repr)
def test_a_constant_field_is_integrated_exactly(solver):
    noise = torch.randn(2, 3, 4, dtype=torch.double)
    torch.testing.assert_close(solver(lambda noisy, time: torch.full_like(noisy, 2.0), noise), noise - 2)


def test_fields_are_asked_at_these_times():
    def times_of(solver: Euler | Heun | Midpoint) -> list[float]:
        asked = []

        def field(noisy: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            assert time.shape == (3,)
            asked.append(time[0].item())
            return torch.zeros_like(noisy)

        solver(field, torch.zeros(3, 1, 1))
        return asked

    assert times_of(Euler(steps=4)) == [1.0, 0.75, 0.5, 0.25]
    assert times_of(Heun(steps=2)) == [1.0, 0.5, 0.5, 0.0]
    assert times_of(Midpoint(steps=2)) == [1.0, 0.75, 0.5, 0.25]


@pytest.mark.parametrize("solver", [Euler(steps=3), Heun(steps=3), Midpoint(steps=3)], ids=repr)
def test_half_precision_keeps_time_exact_and_noise_untouched(solver):
    noise = torch.randn(2, 3, 4, dtype=torch.bfloat16)
    before = noise.clone()

    def field(noisy: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        assert time.dtype == torch.float32
        return noisy

    assert solver(field, noise).dtype == torch.bfloat16
    assert torch.equal(noise, before)
    assert copy.deepcopy(solver).steps == 3


@pytest.mark.parametrize("solver", [Euler, Heun, Midpoint])
def test_no_steps_raise(solver):
    with pytest.raises(SettingError, match="steps must be at least 1, got 0"):
        solver(steps=0)
