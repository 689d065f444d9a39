"""How the public parts of `vla_kit.heads` are built."""

from functools import partial

from contract_cases.probe import Case

from vla_kit.heads import (
    AnchoredHead,
    ConcatenatedProjection,
    DiTBlock,
    DiTHead,
    NoiseHead,
    PerEmbodimentProjection,
    StateTokenHead,
    ValueHead,
)

SIZES = {"context_width": 32, "channels": 4, "width": 16, "depth": 1, "num_heads": 2, "mlp_hidden": 32}

CASES = [
    Case(
        AnchoredHead,
        lambda folder: {"head": DiTHead(**SIZES), "context_width": 32, "horizon": 4, "smallest_time": 0.05},
    ),
    Case(
        ConcatenatedProjection,
        lambda folder: {"channels": 4, "width": 16, "sizes": {"arm": 2}},
        named={"sizes": "embodiments"},
    ),
    Case(DiTBlock, lambda folder: {"width": 16, "num_heads": 2, "mlp_hidden": 32}),
    Case(
        DiTHead,
        lambda folder: {
            **SIZES,
            "attention": "cached",
            "sections": [2, 1, 1],
            "rope_theta": 1e4,
            "projection": partial(PerEmbodimentProjection, embodiments=["arm"]),
        },
    ),
    Case(
        NoiseHead,
        lambda folder: {"context_width": 32, "channels": 4, "width": 16, "smallest_std": 0.08, "largest_std": 0.16},
    ),
    Case(PerEmbodimentProjection, lambda folder: {"channels": 4, "width": 16, "embodiments": ["arm"]}),
    Case(StateTokenHead, lambda folder: {"head": DiTHead(**SIZES), "state_channels": 6}),
    Case(ValueHead, lambda folder: {"context_width": 32}),
]
WITHOUT_CASE: dict[str, str] = {
    "vla_kit.heads.anchored.AnchoredContext": "what AnchoredHead keeps of a context",
    "vla_kit.heads.blocks.Modulation": "what DiTBlock makes of a time",
    "vla_kit.heads.conditioned.Conditioned": "what DiTHead keeps of a context",
}
