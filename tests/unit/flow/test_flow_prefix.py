"""Chunks whose beginning is known, against closed forms."""

import math

import pytest
import torch

from vla_kit.errors import SettingError, ShapeError
from vla_kit.flow import CleanPrefix, Euler, GuidedPrefix, HardPrefix, Heun, Midpoint, prefix_weights

METHODS = [GuidedPrefix(), HardPrefix(), CleanPrefix()]
MEAN = torch.tensor([0.5, 0.2, -0.1, -0.4], dtype=torch.double)
COVARIANCE = 0.04 * torch.eye(4, dtype=torch.double) + 0.6 * torch.ones(4, 4, dtype=torch.double)  # steps go together


def gaussian_field(noisy, time):
    """Expected `noise - action` for chunks from N(MEAN, COVARIANCE), at one time per chunk or one per step.

    A noisy step is `(1 - t) action + t noise`, so with `D` the diagonal matrix of `1 - t` and `T` that of `t`,
    `noisy ~ N(D MEAN, D C D + T T)`, and both expectations given `noisy` are linear regressions.
    """
    times = (time if time.ndim == 2 else time[:, None].expand(-1, 4)).to(noisy.dtype)
    clean, noise = torch.diag_embed(1 - times), torch.diag_embed(times)
    variance = clean @ COVARIANCE @ clean + noise @ noise
    inside = torch.linalg.solve(variance, noisy - clean @ MEAN[:, None])
    return noise @ inside - (MEAN[:, None] + COVARIANCE @ clean @ inside)


def conditional(known):
    """Mean and covariance of the other steps, given the first ones."""
    given = len(known)
    gain = COVARIANCE[given:, :given] @ torch.linalg.inv(COVARIANCE[:given, :given])
    return MEAN[given:] + gain @ (known - MEAN[:given]), COVARIANCE[given:, given:] - gain @ COVARIANCE[:given, given:]


def noises(count):
    return torch.randn(count, 4, 1, generator=torch.Generator().manual_seed(0), dtype=torch.double)


def beginning(values, *, count, delay, fill=math.nan):
    known = torch.full((count, 4, 1), fill, dtype=torch.double)
    known[:, : len(values), 0] = torch.tensor(values, dtype=torch.double)
    mask = torch.zeros(count, 4, 1, dtype=torch.bool)
    mask[:, : len(values)] = True
    return {"known": known, "mask": mask, "delay": torch.full((count,), delay)}


def test_weights_are_the_papers():
    """Equation 5 word for word, with H = 10, d = 3 and s = 2 (8 steps left), and without delay."""
    for delay, left in ((3, 8), (0, 5), (2, 2), (0, 0)):
        expected = []
        for step in range(10):
            share = (left - step) / (left - delay + 1)
            soft = share * (math.exp(share) - 1) / (math.e - 1)
            expected.append(1.0 if step < delay else soft if step < left else 0.0)
        weights = prefix_weights(10, delay=torch.tensor([delay]), left=torch.tensor([left]))
        torch.testing.assert_close(weights, torch.tensor([expected]))


def curved(noisy, time):
    """A field without a simple Jacobian."""
    mixed = torch.einsum("bhc,gh->bgc", noisy, COVARIANCE)
    return torch.sin(2 * mixed) * time[:, None, None] + noisy**2 / 3 + mixed


def papers_step(action, tau, steps, target, weights, beta):
    """One Euler step of algorithm 1 in the paper's convention (tau 0 is noise), with the Jacobian written out."""

    def velocity(point):
        return -curved(point[None, :, None], torch.tensor([1 - tau], dtype=torch.double))[0, :, 0]

    def estimate(point):
        return point + (1 - tau) * velocity(point)

    jacobian = torch.autograd.functional.jacobian(estimate, action)
    radius = (1 - tau) ** 2 / (tau**2 + (1 - tau) ** 2)
    factor = beta if tau == 0 else min(beta, (1 - tau) / (tau * radius))
    error = (target - estimate(action)) @ torch.diag(weights) @ jacobian
    return action + (velocity(action) + factor * error) / steps


@pytest.mark.parametrize("beta", [5.0, 2.2])
def test_guidance_is_the_papers_algorithm_in_the_other_convention(beta):
    target = torch.tensor([0.9, 0.4, -0.3, 0.0], dtype=torch.double)
    action = noises(1)[0, :, 0]
    start = action[None, :, None]
    weights = prefix_weights(4, delay=torch.tensor([1]), left=torch.tensor([3]))[0].double()
    for step in range(5):
        action = papers_step(action, step / 5, 5, target, weights, beta)
    solver = GuidedPrefix(max_guidance=beta)(Euler(steps=5), **beginning([0.9, 0.4, -0.3], count=1, delay=1))
    torch.testing.assert_close(solver(curved, start)[0, :, 0], action)


@pytest.mark.parametrize("solver", [Euler(steps=5), Heun(steps=3), Midpoint(steps=3)], ids=repr)
@pytest.mark.parametrize("method", [HardPrefix(), CleanPrefix()], ids=repr)
def test_what_is_carried_out_is_kept_exactly(method, solver):
    chunks = method(solver, **beginning([0.9, 0.4, 0.1], count=7, delay=2))(gaussian_field, noises(7))
    assert chunks[:, 0, 0].eq(0.9).all()
    assert chunks[:, 1, 0].eq(0.4).all()
    assert chunks.isfinite().all()


@pytest.mark.parametrize("solver", [Euler(steps=4), Heun(steps=2)], ids=repr)
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_no_delay_is_plain_sampling_bit_for_bit(method, solver):
    nothing = beginning([], count=5, delay=0)
    assert torch.equal(method(solver, **nothing)(gaussian_field, noises(5)), solver(gaussian_field, noises(5)))
    if not isinstance(method, GuidedPrefix):  # which looks at steps behind the delay too
        some = beginning([0.9, 0.4], count=5, delay=0)
        assert torch.equal(method(solver, **some)(gaussian_field, noises(5)), solver(gaussian_field, noises(5)))


def test_a_field_that_is_told_the_beginning_gives_the_conditional_law():
    chunks = CleanPrefix()(Heun(steps=60), **beginning([1.9, 1.5], count=4000, delay=2))(gaussian_field, noises(4000))
    rest = chunks[:, 2:, 0]
    mean, covariance = conditional(torch.tensor([1.9, 1.5], dtype=torch.double))
    assert (MEAN[2:] - mean).abs().min() > 1  # far from the law without a beginning
    torch.testing.assert_close(rest.mean(0), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(rest.T.cov(), covariance, atol=0.006, rtol=0)


@pytest.mark.parametrize(("method", "share"), [(GuidedPrefix(), 0.15), (HardPrefix(), 0.5)], ids=repr)
def test_the_rest_goes_on_from_the_beginning(method, share):
    """Neither is exact: what is asked is that most of the way to the conditional mean is gone."""
    chunks = method(Euler(steps=10), **beginning([1.9, 1.5], count=500, delay=2))(gaussian_field, noises(500))
    mean, _ = conditional(torch.tensor([1.9, 1.5], dtype=torch.double))
    assert ((chunks[:, 2:, 0].mean(0) - mean).abs() < share * (MEAN[2:] - mean).abs()).all()


def test_guidance_comes_close_to_the_steps_that_are_carried_out():
    chunks = GuidedPrefix()(Euler(steps=10), **beginning([1.9, 1.5], count=500, delay=2))(gaussian_field, noises(500))
    known = torch.tensor([1.9, 1.5], dtype=torch.double)
    assert (chunks[:, :2, 0] - known).abs().mean() < 0.1


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_what_is_not_known_changes_nothing_whatever_it_holds(method):
    results = [
        method(Euler(steps=3), **beginning([0.9, 0.4], count=2, delay=1, fill=fill))(gaussian_field, noises(2))
        for fill in (0.0, math.nan, math.inf)
    ]
    assert results[0].isfinite().all()
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_sample_alone_gives_what_it_gives_in_a_batch(method):
    first, second = beginning([0.9, 0.4, 0.1], count=1, delay=2), beginning([], count=1, delay=0)
    both = {name: torch.cat([first[name], second[name]]) for name in first}
    together = method(Euler(steps=3), **both)(gaussian_field, noises(2))
    for row, one in enumerate((first, second)):
        alone = method(Euler(steps=3), **one)(gaussian_field, noises(2)[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone)


def test_guidance_works_under_no_grad_and_refuses_inference_mode():
    solver = GuidedPrefix()(Euler(steps=2), **beginning([0.9], count=1, delay=1))
    with torch.no_grad():
        chunk = solver(gaussian_field, noises(1))
    assert not chunk.requires_grad
    torch.testing.assert_close(solver(gaussian_field, noises(1)), chunk)
    with torch.inference_mode(), pytest.raises(SettingError, match=r"Use torch\.no_grad\(\)"):
        solver(gaussian_field, noises(1))


def test_both_ends_of_the_path_are_finite():
    """At time 1 and, with Heun, at time 0 the factor is infinite."""
    chunk = GuidedPrefix()(Heun(steps=1), **beginning([0.9], count=1, delay=1))(gaussian_field, noises(1))
    assert chunk.isfinite().all()


@pytest.mark.usefixtures("shape_hook_off")
@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_refuses(method):
    good = beginning([0.9, 0.4], count=2, delay=1)
    for wrong in (good | {"mask": good["mask"][:1]}, good | {"delay": torch.tensor([1])}):
        with pytest.raises(ShapeError, match=r"mask and delay must have the shapes \(2, 4, 1\) and \(2,\)"):
            method(Euler(), **wrong)
    for delay in (-1, 3):
        with pytest.raises(ShapeError, match=r"delay must lie within the known steps \[2, 2\], got"):
            method(Euler(), **(good | {"delay": torch.full((2,), delay)}))
    for guidance in (0.0, math.nan):
        with pytest.raises(SettingError, match="max_guidance must be above 0"):
            GuidedPrefix(max_guidance=guidance)
