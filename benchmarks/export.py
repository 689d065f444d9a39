"""How far exported policies are from the policies themselves, on real pictures.

Run: python benchmarks/export.py [--folder POLICY] [--results docs/results/export.json]

Small policies with random weights, three kinds of backbone and heads, are exported in both formats, and asked for the
same chunks as `Policy.act`, with the same noise; so is the policy of `--folder`, where one is given. Pictures are
the first ones of episodes in Meta-World. The value is the largest difference, in normalised actions.

The last line of the output is JSON: its name, its value and what this repository wants.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from record import provenance, write_results
from vla_kit.actions import QuantileNormalizer, QuantileStats
from vla_kit.backbones.timm_vit import TimmBackbone
from vla_kit.backbones.tiny import tiny_qwen3_5, tiny_qwen3_vl
from vla_kit.embodiment import EmbodimentPrompter, preset
from vla_kit.export.observations import of_task
from vla_kit.export.write import Format, export_policy
from vla_kit.flow import Midpoint
from vla_kit.heads import AnchoredHead, DiTHead, StateTokenHead
from vla_kit.policy import Policy

GOAL = 1e-4
ROBOT, TASK, SIZE, WIDTH = "metaworld_sawyer", "metaworld/faucet-open", 96, 32
FORMATS: tuple[Format, ...] = ("torch", "onnx")


def main() -> None:
    """Export all, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="folder of Policy.save for one more row, such as the demo's")
    parser.add_argument("--results", type=Path, help="file of docs/results to write the figures to")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    seen = of_task(TASK, count=3, image_size=SIZE)
    policies = {name: small_policy(name) for name in ("qwen3_vl", "qwen3_5", "timm test_vit")}
    if settings.folder:
        policies["demo"] = Policy.load(settings.folder)
    rows: list[dict[str, Any]] = []
    for name, policy in policies.items():
        for kind in FORMATS:
            with tempfile.TemporaryDirectory() as folder:
                written = export_policy(policy, seen, Path(folder) / "exported", format=kind, tolerance=GOAL)
            any_length = " and ".join(written.any_length) or "none"
            difference = written.largest_difference
            rows.append({"model": name, "format": kind, "part": written.part, "any": any_length, "value": difference})
            print(rows[-1] | {"left_out": written.left_out}, flush=True)
    largest = max(row["value"] for row in rows)
    if settings.results:
        write_results(settings.results, {"largest_difference": largest, "goal": GOAL, "rows": rows} | provenance())
    print(json.dumps({"name": "export_largest_difference", "ratio": largest, "goal": GOAL}))


def small_policy(name: str) -> Policy:
    """A policy with random weights throughout; each backbone comes with another head."""
    torch.manual_seed(0)
    spec = preset(ROBOT)
    words = {"corpus": ["open the faucet"], "view_tags": ["cam_high"], "image_size": SIZE}
    sizes = {"context_width": WIDTH, "channels": 8, "width": 32, "depth": 2, "num_heads": 2, "mlp_hidden": 32}
    backbone: nn.Module
    head: nn.Module
    if name == "qwen3_vl":
        backbone, head = tiny_qwen3_vl(hidden=WIDTH, **words), DiTHead(attention="joint", **sizes)
    elif name == "qwen3_5":
        backbone = tiny_qwen3_5(hidden=WIDTH, **words)
        head = AnchoredHead(DiTHead(attention="cached", **sizes), context_width=WIDTH)
    else:
        backbone = TimmBackbone("test_vit", width=WIDTH, **words)
        head = StateTokenHead(DiTHead(attention="cached", **sizes), state_channels=8)
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.1)  # a new head answers 0
    size, states = spec.action_space.size, spec.state_space
    state_stats = QuantileStats(q01=torch.zeros(states.size), q99=torch.ones(states.size))
    return Policy(
        backbone,
        head=head,
        prompter=EmbodimentPrompter([spec]),
        normalizer=QuantileNormalizer(
            {ROBOT: QuantileStats(q01=-torch.ones(size), q99=torch.ones(size))}, spaces={ROBOT: spec.action_space}
        ),
        state_normalizer=QuantileNormalizer({ROBOT: state_stats}, spaces={ROBOT: states})
        if isinstance(head, StateTokenHead)
        else None,
        solver=Midpoint(steps=4),
        channels=8,
    )


if __name__ == "__main__":
    main()
