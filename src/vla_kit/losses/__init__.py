"""Losses: masked flow matching, next token, their weighted sum, and those of reinforcement learning."""

from vla_kit.losses.advantages import generalized_advantages, group_advantages, normalise_advantages
from vla_kit.losses.flow import FlowMatchingLoss
from vla_kit.losses.joint import JointLoss
from vla_kit.losses.language import next_token_loss, projected_next_token_loss
from vla_kit.losses.masked import masked_mse
from vla_kit.losses.ppo import PPOLoss, PPOTerms
from vla_kit.losses.value import ClippedValueLoss, ValueTerms

__all__ = [
    "ClippedValueLoss",
    "FlowMatchingLoss",
    "JointLoss",
    "PPOLoss",
    "PPOTerms",
    "ValueTerms",
    "generalized_advantages",
    "group_advantages",
    "masked_mse",
    "next_token_loss",
    "normalise_advantages",
    "projected_next_token_loss",
]
