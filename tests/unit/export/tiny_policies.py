"""Small policies with random weights, one robot, and pictures for it."""

from functools import partial

import numpy as np
import torch
from torch import nn

from tiny_qwen2_5 import tiny_qwen2_5_vl
from vla_kit.actions import QuantileNormalizer, QuantileStats
from vla_kit.backbones.timm_vit import TimmBackbone
from vla_kit.backbones.tiny import tiny_qwen3_5, tiny_qwen3_vl
from vla_kit.embodiment import EmbodimentPrompter, preset
from vla_kit.flow import Euler
from vla_kit.heads import AnchoredHead, DiTHead, PerEmbodimentProjection, StateTokenHead
from vla_kit.policy import Policy, PolicyObservation

ROBOT = "metaworld_sawyer"
VIEWS = ["cam_high", "cam_left_wrist"]
QWEN = {"qwen2_5": tiny_qwen2_5_vl, "qwen3": tiny_qwen3_vl, "qwen3_5": tiny_qwen3_5}


def backbone(name, **changes):
    words = {"corpus": ["open the faucet"], "view_tags": VIEWS, "image_size": 32} | changes
    if name == "timm":
        return TimmBackbone("test_vit", width=32, text_layers=1, **words)
    return QWEN[name](hidden=32, vision_layers=2, vocabulary_size=320, **words)


def head(name):
    sizes = {"context_width": 32, "channels": 8, "width": 16, "depth": 1, "num_heads": 2, "mlp_hidden": 16}
    if name == "anchored":
        return AnchoredHead(head("cached"), context_width=32)
    if name == "state":
        return StateTokenHead(head("joint"), state_channels=6)
    if name == "per_embodiment":
        return DiTHead(attention="cached", projection=partial(PerEmbodimentProjection, embodiments=[ROBOT]), **sizes)
    return DiTHead(attention=name, **sizes)


def policy(backbone_name, head_name, *, temperature=0.5, **changes):
    torch.manual_seed(0)
    spec, chosen = preset(ROBOT), head(head_name)
    for parameter in chosen.parameters():
        nn.init.normal_(parameter, std=0.2)  # a new head answers 0
    statistics = QuantileStats(q01=torch.tensor([-1.0, 0, 5, -1]), q99=torch.tensor([3.0, 0, 6, 1]))
    states = QuantileStats(q01=torch.zeros(4), q99=torch.ones(4))
    return Policy(
        backbone(backbone_name, **changes),
        head=chosen,
        prompter=EmbodimentPrompter([spec]),
        normalizer=QuantileNormalizer({ROBOT: statistics}, spaces={ROBOT: spec.action_space}),
        state_normalizer=QuantileNormalizer({ROBOT: states}, spaces={ROBOT: spec.state_space})
        if head_name == "state"
        else None,
        solver=Euler(steps=2),
        channels=8,
        temperature=temperature,
    )


def observations(*, words=("open the faucet", "open"), size=32, views=VIEWS):
    rng = np.random.default_rng(0)
    return [
        PolicyObservation(
            embodiment=ROBOT,
            instruction=sentence,
            views={tag: rng.integers(0, 256, (size, size, 3), dtype=np.uint8) for tag in views},
            state=rng.uniform(size=4).astype(np.float32),
        )
        for sentence in words
    ]
