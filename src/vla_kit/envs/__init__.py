"""Simulated robots behind one small protocol, and demonstrations recorded in them."""

from vla_kit.envs.collect import RecordedEpisode, collect, collect_episode
from vla_kit.envs.disturbance import Disturbance
from vla_kit.envs.hosts import EnvFacts, EnvHere, EnvHost
from vla_kit.envs.navigation import Navigating, NavigationTrace, navigation_trace
from vla_kit.envs.protocol import Expert, PolicyEnv, Proprioceptive, SimulationError, StepResult, robot_state
from vla_kit.envs.random_policy import random_actions
from vla_kit.envs.recipe import EnvRecipe
from vla_kit.envs.registry import make_env, make_expert
from vla_kit.envs.shifts import SHIFTS, Shift, find_shift
from vla_kit.envs.tasks import PAIRS, TASKS, EnvTask, find_task
from vla_kit.envs.workers import EnvWorker, env_workers

__all__ = [
    "PAIRS",
    "SHIFTS",
    "TASKS",
    "Disturbance",
    "EnvFacts",
    "EnvHere",
    "EnvHost",
    "EnvRecipe",
    "EnvTask",
    "EnvWorker",
    "Expert",
    "Navigating",
    "NavigationTrace",
    "PolicyEnv",
    "Proprioceptive",
    "RecordedEpisode",
    "Shift",
    "SimulationError",
    "StepResult",
    "collect",
    "collect_episode",
    "env_workers",
    "find_shift",
    "find_task",
    "make_env",
    "make_expert",
    "navigation_trace",
    "random_actions",
    "robot_state",
]
