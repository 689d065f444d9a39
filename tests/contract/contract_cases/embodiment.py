"""How the public parts of `vla_kit.embodiment` are built."""

from contract_cases.actions import SPACE, STATS
from contract_cases.probe import Case

from vla_kit.actions import QuantileNormalizer
from vla_kit.embodiment import EmbodimentPrompter, EmbodimentSpec, History, StateScaler, preset

ARM = EmbodimentSpec(
    "arm", robot_tag="UR5e", rate_hz=10.0, chunk_size=4, action_space=SPACE, arms="single", state_space=SPACE
)

CASES = [
    Case(
        EmbodimentPrompter,
        lambda folder: {"specs": [ARM], "state_convention": True, "state_bins": 256},
        named={"state_bins": "bins"},
    ),
    Case(
        EmbodimentSpec,
        lambda folder: {
            "name": "arm",
            "robot_tag": "UR5e",
            "rate_hz": 10.0,
            "chunk_size": 16,
            "action_space": SPACE,
            "arms": "single",
            "waist": False,
            "mobile_base": False,
            "control_convention": "joint positions",
            "task": "manipulation",
            "state_space": SPACE,
        },
    ),
    Case(History, lambda folder: {"frames": 8, "rate_hz": 2.0}),
    Case(
        History.within,
        lambda folder: {"max_tokens": 2048, "tokens_per_frame": 60, "rate_hz": 2.0},
        named={"max_tokens": "budget"},
    ),
    Case(
        StateScaler,
        lambda folder: {
            "normalizer": QuantileNormalizer({"arm": STATS}, spaces={"arm": SPACE}),
            "prompter": EmbodimentPrompter([ARM]),
            "channels": 6,
        },
    ),
    Case(preset, lambda folder: {"name": "franka_eef", "rate_hz": 20.0, "chunk_size": 16}),
]
WITHOUT_CASE: dict[str, str] = {}
