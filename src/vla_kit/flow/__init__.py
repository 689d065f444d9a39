"""Flow matching: path from action to noise, laws of flow time, solvers, stochastic samplers, known beginnings.

One convention, the paper's: time 0 is the clean action, time 1 is noise, velocity is `noise - action`, sampling runs
from 1 to 0. Nothing here knows a network.
"""

from vla_kit.flow.learned_noise import LearnedNoiseEuler
from vla_kit.flow.path import interpolate, target_velocity
from vla_kit.flow.prefix import CleanPrefix, GuidedPrefix, HardPrefix, prefix_weights
from vla_kit.flow.solvers import Euler, Heun, Midpoint
from vla_kit.flow.stochastic import StochasticEuler
from vla_kit.flow.stochastic_path import StochasticPath
from vla_kit.flow.time import BetaTime, SigmoidNormalTime, UniformTime
from vla_kit.flow.transitions import GaussianTransitions

__all__ = [
    "BetaTime",
    "CleanPrefix",
    "Euler",
    "GaussianTransitions",
    "GuidedPrefix",
    "HardPrefix",
    "Heun",
    "LearnedNoiseEuler",
    "Midpoint",
    "SigmoidNormalTime",
    "StochasticEuler",
    "StochasticPath",
    "UniformTime",
    "interpolate",
    "prefix_weights",
    "target_velocity",
]
