"""From what a robot sees and is told to the native actions that it carries out."""

from vla_kit.policy.ensembling import EnsembleExecutor
from vla_kit.policy.execution import ChunkExecutor
from vla_kit.policy.frame_history import FrameHistory
from vla_kit.policy.observation import PolicyObservation
from vla_kit.policy.policy import Policy
from vla_kit.policy.prediction import Inpainting, Solver, predict_actions
from vla_kit.policy.real_time import ChunkPrefix, RealTimeExecutor
from vla_kit.policy.waypoint_execution import WaypointExecutor, WaypointPolicy

__all__ = [
    "ChunkExecutor",
    "ChunkPrefix",
    "EnsembleExecutor",
    "FrameHistory",
    "Inpainting",
    "Policy",
    "PolicyObservation",
    "RealTimeExecutor",
    "Solver",
    "WaypointExecutor",
    "WaypointPolicy",
    "predict_actions",
]
