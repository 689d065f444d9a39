"""Samples per second of a tiny backbone in full training, relative to the 80 that the demo needs on two cores.

Run: python benchmarks/backbone_throughput.py [--backbone tiny_qwen3_vl] [--patch-size 16] [--precision bfloat16] ...

A training step is prepared input -> forward -> backward -> AdamW, at the sizes of the demo. Inference and preprocessing
take turns with it, so a busy machine hurts all alike. The last line of the output is JSON: samples per second of
training relative to 80, the rates with their intervals, and the ratio that this repository wants to reach.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from record import median_interval, provenance, write_results
from vla_kit.backbones.timm_vit import TimmBackbone
from vla_kit.backbones.tiny import tiny_qwen3_5, tiny_qwen3_vl
from vla_kit.protocols import Observation

NEEDED = 80.0  # samples per second
GOAL = 1.0
PROMPT = (
    "The robot is a Sawyer with single arm. The control frequency is 20 Hz. "
    "Please predict the next 16 control actions to execute the following task: push the puck to the goal."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="tiny_qwen3_vl", help="tiny_qwen3_vl, tiny_qwen3_5 or a timm model")
    parser.add_argument("--precision", default="bfloat16", choices=["float32", "bfloat16"])
    for name, default in (("patch-size", 16), ("merge-size", 2), ("image-size", 96), ("batch", 32), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=6, help="per round")
    parser.add_argument("--results", type=Path, help="JSON file to add the figures to")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    common = {"corpus": [PROMPT], "view_tags": ["ego"], "image_size": options.image_size}
    tiny = {"tiny_qwen3_vl": tiny_qwen3_vl, "tiny_qwen3_5": tiny_qwen3_5}
    if options.backbone in tiny:
        backbone = tiny[options.backbone](patch_size=options.patch_size, merge_size=options.merge_size, **common)
    else:
        backbone = TimmBackbone(options.backbone, **common)
    images = torch.randint(0, 256, (options.batch, 3, options.image_size, options.image_size), dtype=torch.uint8)
    observations = [Observation(prompt=PROMPT, views={"ego": image}) for image in images]
    inputs = backbone.prepare(observations)
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=1e-4, fused=True)
    precision = torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16")

    def train() -> None:
        with precision, sdpa_kernel(SDPBackend.MATH):  # as the demo trains, see AttentionKernel
            loss = backbone(inputs).hidden.float().square().mean()
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    @torch.inference_mode()
    def infer() -> None:
        with precision:
            backbone(inputs)

    work: dict[str, Callable[[], object]] = {
        "train": train,
        "infer": infer,
        "prepare": lambda: backbone.prepare(observations),
    }
    rates: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(options.rounds + 1):
        for name, once in work.items():
            start = time.perf_counter()
            for _ in range(options.steps):
                once()
            if turn:  # the first warms up
                rates[name].append(options.batch * options.steps / (time.perf_counter() - start))
    figures = {name: median_interval(values) for name, values in rates.items()}
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    with torch.inference_mode():
        tokens = backbone(inputs).hidden.shape[1]
    print(f"{options.backbone}: {parameters / 1e6:.2f} M parameters, {tokens} context tokens")
    for name, found in figures.items():
        print(f"{name:8} {found['value']:8.1f} samples/s ({found['low']:.1f} to {found['high']:.1f})")
    ratio = figures["train"]["value"] / NEEDED
    if options.results is not None:
        rows = [{"part": name, **found} for name, found in figures.items()]
        entry = {"ratio": ratio, "goal": GOAL, "samples_per_second": rows, "tokens": tokens} | provenance()
        write_results(options.results, {options.backbone: entry})
    print(json.dumps({"name": "backbone_throughput", "ratio": round(ratio, 3), "goal": GOAL, **figures}))


if __name__ == "__main__":
    main()
