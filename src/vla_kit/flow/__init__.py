"""Flow matching: the path from action to noise, laws of flow time, ODE solvers, chunks whose beginning is known.

One convention, the paper's: time 0 is the clean action, time 1 is noise, velocity is `noise - action`, sampling runs
from 1 to 0. Nothing here knows a network.
"""

from vla_kit.flow.path import interpolate, target_velocity
from vla_kit.flow.prefix import CleanPrefix, GuidedPrefix, HardPrefix, prefix_weights
from vla_kit.flow.solvers import Euler, Heun, Midpoint
from vla_kit.flow.time import BetaTime, SigmoidNormalTime, UniformTime

__all__ = [
    "BetaTime",
    "CleanPrefix",
    "Euler",
    "GuidedPrefix",
    "HardPrefix",
    "Heun",
    "Midpoint",
    "SigmoidNormalTime",
    "UniformTime",
    "interpolate",
    "prefix_weights",
    "target_velocity",
]
