"""A robot, a small model and recorded data, for the tests of training."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vla_kit.actions import ActionSpace, ChannelGroup, QuantileNormalizer
from vla_kit.backbones.tiny import tiny_qwen3_vl
from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.data.lerobot_writer import LeRobotWriter
from vla_kit.embodiment import EmbodimentPrompter, EmbodimentSpec
from vla_kit.flow import Euler, UniformTime
from vla_kit.heads import DiTHead
from vla_kit.losses import FlowMatchingLoss, JointLoss
from vla_kit.training.vla_module import VLAModule


def _robot(name: str, size: int) -> EmbodimentSpec:
    space = ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad", count=size)])
    return EmbodimentSpec(name, robot_tag=name.title(), rate_hz=10, chunk_size=4, action_space=space, arms="single")


@pytest.fixture
def prompter() -> EmbodimentPrompter:
    return EmbodimentPrompter([_robot("arm", 2), _robot("crane", 3)])


@pytest.fixture
def parts(prompter: EmbodimentPrompter) -> Callable[..., dict]:
    """Parts of a module; each call makes new ones with the same weights."""

    def build(*, width: int = 16, corpus: tuple[str, ...] = ("push the block",)) -> dict:
        backbone = tiny_qwen3_vl(
            corpus=list(corpus), view_tags=["cam"], image_size=32, hidden=32, vision_layers=1, text_layers=1
        )
        return {
            "backbone": backbone,
            "head": DiTHead(context_width=32, channels=4, width=width, depth=1, num_heads=2, mlp_hidden=16),
            "prompter": prompter,
            "normalizer": QuantileNormalizer(),
            "flow_loss": FlowMatchingLoss(UniformTime(), draws=2),
            "loss": JointLoss(),
            "solver": Euler(steps=2),
        }

    return build


@pytest.fixture
def module(parts: Callable[..., dict]) -> VLAModule:
    return VLAModule(**parts(), backbone_learning_rate=1e-3, head_learning_rate=1e-2, backbone_warmup_steps=0)


@pytest.fixture
def make_set(tmp_path: Path) -> Callable[..., DemonstrationSet]:
    """Record a data set of random actions and pictures."""

    def write(
        name: str = "arm",
        *,
        size: int = 2,
        lengths: tuple[int, ...] = (5, 6, 7, 8),
        scale: float = 1.0,
        words: tuple[str, ...] = (),
    ) -> DemonstrationSet:
        rng = np.random.default_rng(0)
        camera = {"dtype": "image", "shape": (32, 32, 3)}
        features = {"action": {"dtype": "float32", "shape": (size,)}, "observation.images.cam": camera}
        with LeRobotWriter(tmp_path / name, rate_hz=10, features=features) as writer:
            for length, text in zip(lengths, words or ["push the block"] * len(lengths), strict=True):
                writer.add_episode(
                    (scale * rng.normal(size=(length, size))).astype(np.float32),
                    {"observation.images.cam": rng.integers(0, 256, (length, 32, 32, 3), dtype=np.uint8)},
                    instruction=text,
                )
        return DemonstrationSet(
            root=str(tmp_path / name), embodiment=name.split("-")[0], views={"cam": "observation.images.cam"}
        )

    return write
