"""How the public parts of `vla_kit.losses` are built."""

from contract_cases.probe import Case

from vla_kit.flow import UniformTime
from vla_kit.losses import ClippedValueLoss, FlowMatchingLoss, JointLoss, PPOLoss

CASES = [
    Case(ClippedValueLoss, lambda folder: {"clip": 0.2, "huber_delta": 10.0}),
    Case(
        FlowMatchingLoss,
        lambda folder: {"time_sampler": UniformTime(), "draws": 4, "max_delay": 2},
        meant={"max_delay": ("0",)},  # no known beginnings
    ),
    Case(JointLoss, lambda folder: {"action_weight": 1.0, "language_weight": 0.1}),
    Case(PPOLoss, lambda folder: {"clip": 0.2, "ratio": "exact", "kl_weight": 0.1, "entropy_weight": 0.005}),
]
WITHOUT_CASE: dict[str, str] = {
    "vla_kit.losses.ppo.PPOTerms": "what PPOLoss answers",
    "vla_kit.losses.value.ValueTerms": "what ClippedValueLoss answers",
}
