"""Action heads: velocity fields that take a backbone's context, and sampling from them."""

from vla_kit.heads.anchored import AnchoredContext, AnchoredHead
from vla_kit.heads.blocks import DiTBlock
from vla_kit.heads.conditioned import Conditioned
from vla_kit.heads.dit import DiTHead
from vla_kit.heads.sampling import sample_actions

__all__ = ["AnchoredContext", "AnchoredHead", "Conditioned", "DiTBlock", "DiTHead", "sample_actions"]
