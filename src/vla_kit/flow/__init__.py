"""Flow matching: the path from action to noise, laws of flow time, ODE solvers.

One convention, the paper's: time 0 is the clean action, time 1 is noise, velocity is `noise - action`, sampling runs
from 1 to 0. Nothing here knows a network.
"""

from vla_kit.flow.path import interpolate, target_velocity
from vla_kit.flow.solvers import Euler, Heun, Midpoint
from vla_kit.flow.time import BetaTime, SigmoidNormalTime, UniformTime

__all__ = [
    "BetaTime",
    "Euler",
    "Heun",
    "Midpoint",
    "SigmoidNormalTime",
    "UniformTime",
    "interpolate",
    "target_velocity",
]
