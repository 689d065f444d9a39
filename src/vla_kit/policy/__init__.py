"""From what a robot sees and is told to the native actions that it carries out."""

from vla_kit.policy.execution import ChunkExecutor
from vla_kit.policy.observation import PolicyObservation
from vla_kit.policy.policy import Policy
from vla_kit.policy.prediction import Solver, predict_actions

__all__ = ["ChunkExecutor", "Policy", "PolicyObservation", "Solver", "predict_actions"]
