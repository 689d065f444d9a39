"""Samples per second of a tiny backbone: full training step, inference, and preprocessing.

Run: python benchmarks/backbone_throughput.py [--backbone tiny_qwen3_vl] [--patch-size 8] [--merge-size 2] [--threads 2]
A step is prepared input -> forward -> backward -> AdamW, at float32. Wall-clock time counts whatever else the machine
does; the time per core (`process_time` over all threads) does not, so both are printed.
"""

import argparse
import time
from collections.abc import Callable

import torch

from vla_kit.backbones.timm_vit import TimmBackbone
from vla_kit.backbones.tiny import tiny_qwen3_5, tiny_qwen3_vl
from vla_kit.protocols import Observation

PROMPT = (
    "The robot is a Sawyer with single arm. The control frequency is 20 Hz. "
    "Please predict the next 16 control actions to execute the following task: push the puck to the goal."
)


def rate(work: Callable[[], object], samples: int, steps: int) -> str:
    work()
    wall, core = time.perf_counter(), time.process_time()
    for _ in range(steps):
        work()
    wall, core = time.perf_counter() - wall, time.process_time() - core
    return f"{samples * steps / wall:8.1f} samples/s   {samples * steps / core:8.1f} samples/core-s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="tiny_qwen3_vl", help="tiny_qwen3_vl, tiny_qwen3_5 or a timm model")
    parser.add_argument("--patch-size", type=int, default=8)
    parser.add_argument("--merge-size", type=int, default=2)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
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

    def train() -> None:
        backbone(inputs).hidden.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    @torch.inference_mode()
    def infer() -> None:
        backbone(inputs)

    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    tokens = backbone(inputs).hidden.shape[1]
    print(
        f"{options.backbone}: {parameters / 1e6:.2f} M parameters, {tokens} context tokens, {options.threads} threads"
    )
    print(f"prepare  {rate(lambda: backbone.prepare(observations), options.batch, options.steps)}")
    print(f"train    {rate(train, options.batch, options.steps)}")
    print(f"infer    {rate(infer, options.batch, options.steps)}")


if __name__ == "__main__":
    main()
