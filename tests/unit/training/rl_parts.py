"""A walker that learns by reward: its robot, a small model, and environments without a simulator."""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))

from corridor import Breaking, Corridor

from vla_kit.actions import ActionSpace, ChannelGroup, QuantileNormalizer, QuantileStats
from vla_kit.backbones.tiny import tiny_qwen3_vl
from vla_kit.embodiment import EmbodimentPrompter, EmbodimentSpec
from vla_kit.envs import StepResult
from vla_kit.flow import Euler, StochasticEuler, UniformTime
from vla_kit.heads import AnchoredHead, DiTHead
from vla_kit.losses import ClippedValueLoss, FlowMatchingLoss, JointLoss, PPOLoss
from vla_kit.training.flow_ppo import FlowPPOModule
from vla_kit.training.vla_module import VLAModule

__all__ = ["Breaking", "Corridor"]


def model_parts(*, width=16):
    space = ActionSpace([ChannelGroup("leg", kind="joint", reference="absolute", unit="rad", count=1)])
    robot = EmbodimentSpec("walker", robot_tag="Walker", rate_hz=10, chunk_size=4, action_space=space, arms="single")
    stats = QuantileStats(q01=-torch.ones(1), q99=torch.ones(1))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = DiTHead(context_width=32, channels=2, width=width, depth=1, num_heads=2, mlp_hidden=16)
        return {
            "backbone": tiny_qwen3_vl(
                corpus=["walk 1 2 3 4 5"],
                view_tags=["cam", "wrist"],
                image_size=32,
                hidden=32,
                vision_layers=1,
                text_layers=1,
            ),
            "head": AnchoredHead(head, context_width=32, horizon=4),
            "prompter": EmbodimentPrompter([robot]),
            "normalizer": QuantileNormalizer({"walker": stats}, spaces={"walker": space}),
            "flow_loss": FlowMatchingLoss(UniformTime(), draws=2),
            "loss": JointLoss(),
            "solver": Euler(steps=2),
        }


def rl_module(*, freeze=("backbone",), kl_weight=0.0, **settings):
    given = {"head_learning_rate": 1e-2, "value_learning_rate": 1e-2, "minibatch_size": 16, "weight_decay": 0.0}
    given |= {"backbone_warmup_steps": 0, "head_warmup_steps": 0, "final_learning_rate": 1.0}
    given = {"sampler": StochasticEuler(steps=2, stochastic_steps="all")} | given
    return FlowPPOModule(
        policy_loss=PPOLoss(kl_weight=kl_weight),
        value_loss=ClippedValueLoss(),
        freeze=freeze,
        **(given | settings),
        **model_parts(),
    )


def sft_module(**settings):
    return VLAModule(**model_parts(**settings), backbone_warmup_steps=0, head_warmup_steps=0)


class Push(Corridor):
    """One decision of four actions: solved where their sum is above 1; the picture says nothing."""

    task, max_steps = "toy/push", 4

    def step(self, action):
        self.total = float(action[0]) + (self.total if self.taken else 0.0)
        self.taken += 1
        self.over = self.taken == self.max_steps
        return StepResult(success=self.over and self.total > 1, done=self.over)


class Unclear(Corridor):
    """Says NaN in place of success."""

    def step(self, action):
        result = super().step(action)
        return StepResult(success=float("nan"), done=result.done)


class Shrinking(Corridor):
    """Shows a smaller picture after its first look."""

    def look(self):
        pictures = super().look()
        return pictures if self.taken == 0 else {tag: picture[:2] for tag, picture in pictures.items()}


class Grey(Corridor):
    """Shows pictures without colours."""

    def look(self):
        return {tag: picture[..., 0] for tag, picture in super().look().items()}


class Lost(Corridor):
    """Measures NaN of itself."""

    def robot_state(self):
        return np.array([np.nan])
