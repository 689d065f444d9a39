"""A graph, run as a module, answers as the policy does; tracing it is another file's matter."""

import numpy as np
import pytest
import torch
from tiny_policies import ROBOT, backbone, observations, policy

from vla_kit.errors import ExportError, SettingError
from vla_kit.export import ContextGraph, HeadGraph, PolicyGraph
from vla_kit.export.choose import context_graph
from vla_kit.policy.prediction import draw_noise

PAIRS = [("qwen3", "joint"), ("qwen3", "anchored"), ("qwen2_5", "cached"), ("qwen3_5", "state"), ("timm", "state")]
PAIRS += [("timm", "per_embodiment"), ("timm", "anchored")]


def generators(count):
    return [torch.Generator().manual_seed(number) for number in range(count)]


def answers(subject, seen):
    """The policy's own, and those of its graph."""
    prepared, _ = subject.prepare(seen)
    context, head = context_graph(subject.backbone, prepared), HeadGraph(subject, embodiment=ROBOT)
    assert isinstance(context, ContextGraph)
    graph = PolicyGraph(context, head).eval()
    inputs = context.arrange(prepared)
    inputs["noise"] = draw_noise(
        torch.ones(len(seen), head.horizon, head.size, dtype=torch.bool), generators(len(seen))
    )
    if "state" in graph.axes:
        inputs["state"] = torch.stack([torch.from_numpy(one.state) for one in seen])
    assert inputs.keys() == graph.axes.keys()
    with torch.no_grad(), context.traceable():
        got = graph(**inputs)
    own = subject.act(seen, generator=generators(len(seen)))  # after, so that the paths for tracing must be gone again
    return np.stack(own), got.numpy()


@pytest.mark.parametrize(("backbone_name", "head_name"), PAIRS)
def test_graph_answers_as_the_policy(backbone_name, head_name):
    own, got = answers(policy(backbone_name, head_name), observations())
    assert own.shape == (2, 16, 4)
    assert np.ptp(own, axis=1).min(axis=0)[[0, 2, 3]].min() > 0.01  # something to compare; channel 1 is constant
    np.testing.assert_allclose(got, own, atol=2e-5)


def test_windows_that_do_not_fill_the_picture():
    """Qwen2.5-VL attends within windows of 2 x 2 patches of 8 pixels; 48 pixels make three of them, or uneven ones."""
    subject = policy("qwen2_5", "joint", image_size=48)
    subject.backbone.model.config.vision_config.window_size = 32
    subject.backbone.model.model.visual.window_size = 32
    own, got = answers(subject, observations(size=48))
    np.testing.assert_allclose(got, own, atol=2e-5)


def test_an_earlier_layer_feeds_the_head():
    subject = policy("qwen3", "joint")
    subject.backbone.layer = -2
    own, got = answers(subject, observations())
    np.testing.assert_allclose(got, own, atol=2e-5)


def test_samples_with_other_views_make_no_graph():
    subject = policy("timm", "joint")
    mixed = [*observations(), *observations(words=["open"], views=["cam_high"])]
    with pytest.raises(SettingError, match="observations must have the same views, got 5 pictures in 3 observations"):
        context_graph(subject.backbone, subject.prepare(mixed)[0])
    subject = policy("qwen3", "joint")
    with pytest.raises(SettingError, match="observations must have equally many pictures of one size, got the grids"):
        context_graph(subject.backbone, subject.prepare(mixed)[0])
    with pytest.raises(SettingError, match="observations must have a picture each, got none"):
        context_graph(subject.backbone, subject.prepare(observations(views=[]))[0])


def test_another_backbone_makes_no_graph():
    with pytest.raises(ExportError, match="backbone must be a QwenVLBackbone, a TimmBackbone or a ContextGraph"):
        context_graph(torch.nn.Identity(), {})


def test_a_video_makes_no_graph():
    subject = backbone("qwen3", history="video")
    with pytest.raises(SettingError, match="history must be 'images' in a graph, got 'video'"):
        context_graph(subject, {"pixel_values_videos": torch.zeros(1, 1)})
