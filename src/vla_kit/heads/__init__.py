"""Action heads: velocity fields that take a backbone's context, and sampling from them."""

from vla_kit.heads.anchored import AnchoredContext, AnchoredHead
from vla_kit.heads.blocks import DiTBlock
from vla_kit.heads.concatenated import ConcatenatedProjection
from vla_kit.heads.conditioned import Conditioned
from vla_kit.heads.dit import DiTHead
from vla_kit.heads.noise import NoiseHead
from vla_kit.heads.per_embodiment import PerEmbodimentProjection
from vla_kit.heads.pooling import mean_token
from vla_kit.heads.projection import ActionProjection
from vla_kit.heads.sampling import sample_actions
from vla_kit.heads.state_token import StateTokenHead
from vla_kit.heads.value import ValueHead

__all__ = [
    "ActionProjection",
    "AnchoredContext",
    "AnchoredHead",
    "ConcatenatedProjection",
    "Conditioned",
    "DiTBlock",
    "DiTHead",
    "NoiseHead",
    "PerEmbodimentProjection",
    "StateTokenHead",
    "ValueHead",
    "mean_token",
    "sample_actions",
]
