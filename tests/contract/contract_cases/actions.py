"""How the public parts of `vla_kit.actions` are built."""

import torch
from contract_cases.probe import Case

from vla_kit.actions import (
    ActionRepresentation,
    ActionSpace,
    Channel,
    ChannelGroup,
    EigengraspBasis,
    MaskedActions,
    QuantileNormalizer,
    QuantileStats,
    StopRule,
)

SPACE = ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad", count=2)])
STATS = QuantileStats(q01=torch.zeros(2), q99=torch.ones(2))
CONVERTED = ("wrong dtype",)  # numbers of any type, read from files of any origin; kept as float32

CASES = [
    Case(
        ActionRepresentation,
        lambda folder: {"kind": "delta_step", "rotation": "axis_angle", "output": "rotation_6d", "frame": "body"},
    ),
    Case(ActionSpace, lambda folder: {"groups": [ChannelGroup("x", kind="joint", reference="absolute", unit="rad")]}),
    Case(
        Channel,
        lambda folder: {"name": "x", "kind": "joint", "reference": "absolute", "unit": "rad", "normalized": True},
    ),
    Case(
        ChannelGroup,
        lambda folder: {
            "name": "x",
            "kind": "joint",
            "reference": "delta",
            "unit": "rad",
            "count": 2,
            "normalized": True,
        },
    ),
    Case(
        EigengraspBasis,
        lambda folder: {"mean": torch.zeros(45), "directions": torch.eye(45)[:10]},
        meant={"mean": CONVERTED, "directions": CONVERTED},
    ),
    Case(
        EigengraspBasis.from_mano,
        lambda folder: {"components": torch.eye(45), "mean": torch.zeros(45), "side": "right", "count": 10},
        meant={"components": CONVERTED, "mean": CONVERTED},
        named={"components": "directions"},
    ),
    Case(
        MaskedActions,
        lambda folder: {"values": torch.zeros(2, 3, 4), "mask": torch.ones(2, 3, 4, dtype=torch.bool)},
        meant={"values": ("nan",)},  # padding may hold anything; what is real was checked by `pad`
    ),
    Case(
        MaskedActions.pad,
        lambda folder: {
            "natives": [torch.zeros(3, 2)],
            "channels": 4,
            "horizon": 5,
            "valid": [torch.ones(3, dtype=torch.bool)],
        },
    ),
    Case(MaskedActions.stack, lambda folder: {"parts": [MaskedActions.pad([torch.zeros(3, 2)])]}),
    Case(QuantileNormalizer, lambda folder: {"stats": {"arm": STATS}, "spaces": {"arm": SPACE}}),
    Case(
        QuantileStats,
        lambda folder: {
            "q01": torch.zeros(2),
            "q99": torch.ones(2),
            "minimum": torch.full((2,), -1.0),
            "maximum": torch.full((2,), 2.0),
            "mean": torch.full((2,), 0.5),
            "std": torch.full((2,), 0.3),
            "count": 100,
        },
        meant=dict.fromkeys(("q01", "q99", "minimum", "maximum", "mean", "std"), CONVERTED)
        | {"count": ("0",)},  # unseen
    ),
    Case(QuantileStats.from_dict, lambda folder: {"entry": {"q01": [0.0], "q99": [1.0], "count": [100]}}),
    Case(QuantileStats.from_frames, lambda folder: {"frames": torch.rand(100, 2)}, meant={"frames": CONVERTED}),
    Case(StopRule, lambda folder: {"distance_m": 0.1, "angle_rad": 0.17}),
]
WITHOUT_CASE: dict[str, str] = {}
