"""Losses: masked flow matching, next token, and their weighted sum."""

from vla_kit.losses.flow import FlowMatchingLoss
from vla_kit.losses.joint import JointLoss
from vla_kit.losses.language import next_token_loss
from vla_kit.losses.masked import masked_mse

__all__ = ["FlowMatchingLoss", "JointLoss", "masked_mse", "next_token_loss"]
