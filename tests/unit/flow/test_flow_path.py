import pytest
import torch

from vla_kit.errors import ShapeError
from vla_kit.flow import interpolate, target_velocity


def test_interpolate_matches_values_by_hand():
    actions = torch.tensor([[[2.0, -1.0]], [[4.0, 0.0]]])
    noise = torch.tensor([[[0.0, 1.0]], [[-4.0, 8.0]]])
    noisy = interpolate(actions, noise, torch.tensor([0.5, 0.25]))
    torch.testing.assert_close(noisy, torch.tensor([[[1.0, 0.0]], [[2.0, 2.0]]]))


def test_the_ends_of_the_path_are_exact():
    actions, noise = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    assert torch.equal(interpolate(actions, noise, torch.zeros(2)), actions)
    assert torch.equal(interpolate(actions, noise, torch.ones(2)), noise)


def test_velocity_is_the_derivative_of_the_path():
    torch.manual_seed(0)
    actions, noise = torch.randn(2, 3, 4, dtype=torch.double), torch.randn(2, 3, 4, dtype=torch.double)
    time = torch.tensor([0.3, 0.8], dtype=torch.double)
    _, derivative = torch.autograd.functional.jvp(
        lambda at: interpolate(actions, noise, at), time, torch.ones_like(time)
    )
    torch.testing.assert_close(derivative, target_velocity(actions, noise))


def test_agrees_with_torchcfm_through_the_adapter_for_its_convention():
    matching = pytest.importorskip("torchcfm.conditional_flow_matching")
    torch.manual_seed(0)
    actions, noise, time = torch.randn(5, 3, 4), torch.randn(5, 3, 4), torch.rand(5)
    # torchcfm runs from noise (0) to data (1): its time is 1 - ours and its velocity is the negative of ours.
    matcher = matching.ConditionalFlowMatcher(sigma=0.0)
    _, noisy, velocity = matcher.sample_location_and_conditional_flow(noise, actions, 1 - time)
    torch.testing.assert_close(interpolate(actions, noise, time), noisy)
    torch.testing.assert_close(target_velocity(actions, noise), -velocity)


@pytest.mark.usefixtures("shape_hook_off")
def test_errors_name_the_shapes():
    with pytest.raises(ShapeError, match=r"noise must have the shape of actions \(2, 3\), got \(2, 4\)"):
        interpolate(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2))
    with pytest.raises(ShapeError, match=r"noise must have the shape of actions \(2, 3\), got \(1, 3\)"):
        target_velocity(torch.zeros(2, 3), torch.zeros(1, 3))
    with pytest.raises(ShapeError, match=r"time must have the shape \(2,\), got \(1,\)"):
        interpolate(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(1))


def test_steps_may_have_times_of_their_own():
    actions, noise = torch.full((1, 2, 1), 4.0), torch.full((1, 2, 1), 8.0)
    assert interpolate(actions, noise, torch.tensor([[0.0, 0.25]])).flatten().tolist() == [4.0, 5.0]
