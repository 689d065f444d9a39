"""How the public parts of `vla_kit.metrics` are built."""

import numpy as np
import torch
from contract_cases.actions import SPACE
from contract_cases.probe import Case

from vla_kit.actions import EigengraspBasis
from vla_kit.metrics import NavigationEpisode
from vla_kit.metrics.action_error import ActionError
from vla_kit.metrics.hand_error import HandError
from vla_kit.metrics.navigation_scores import NavigationScores
from vla_kit.metrics.success import SuccessRate

CASES = [
    Case(ActionError, lambda folder: {"spaces": {"arm": SPACE}}),
    Case(HandError, lambda folder: {"basis": EigengraspBasis(torch.zeros(45), torch.eye(45)[:10])}),
    Case(
        NavigationEpisode,
        lambda folder: {
            "distance_m": 2.0,
            "nearest_m": 1.0,
            "length_m": 8.0,
            "shortest_m": 7.0,
            "stopped": True,
            "ndtw": 0.5,
            "success_m": 3.0,
        },
    ),
    Case(
        NavigationEpisode.of,
        lambda folder: {
            "path": np.array([[0.0, 0.0], [1.0, 0.0]]),
            "goal_distances": np.array([1.0, 0.0]),
            "shortest_m": 1.0,
            "stopped": True,
            "success_m": 3.0,
            "reference": np.array([[0.0, 0.0], [1.0, 0.0]]),
        },
        named={"goal_distances": "distance"},
    ),
    Case(NavigationScores, lambda folder: {}, left={"kwargs": "those of torchmetrics"}),
    Case(SuccessRate, lambda folder: {"confidence": 0.95}),
]
WITHOUT_CASE: dict[str, str] = {"vla_kit.metrics.intervals.RateDifference": "what rate_difference answers"}
