"""Memory per GPU that weights, gradients and optimiser state of the full-size Qwen-VLA take, for each strategy.

Nothing is measured on a GPU: parameters are counted on the meta device, in the modules that train. The head is that of
examples/qwen_vla/configs/size/full.yaml. The backbone is transformers' Qwen3.5 with the sizes that Qwen3.5-4B publishes
for its language model; the sizes of its vision tower are the defaults of transformers' configuration.

Run: python benchmarks/memory_plan.py --results docs/results/memory_plan.json
"""

import argparse
from pathlib import Path

import torch
import yaml
from torch import nn
from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

from record import provenance, write_results
from vla_kit.heads import DiTHead
from vla_kit.training.sharding import sharding_units

FULL = Path(__file__).parents[1] / "examples" / "qwen_vla" / "configs" / "size" / "full.yaml"
FLOAT, HALF = 4, 2
ADAM = 2 * FLOAT
GIB = 2**30


def full_head() -> nn.Module:
    """The head of size/full.yaml, without memory."""
    settings = yaml.safe_load(FULL.read_text(encoding="utf-8"))["model"]["head"]["init_args"]
    with torch.device("meta"):
        return DiTHead(**settings)


def full_backbone() -> nn.Module:
    """Qwen3.5 at the size of Qwen3.5-4B, without memory."""
    text = {
        "vocab_size": 248_320,
        "hidden_size": 2560,
        "intermediate_size": 9216,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "linear_key_head_dim": 128,
        "linear_num_key_heads": 16,
        "linear_value_head_dim": 128,
        "linear_num_value_heads": 32,
        "layer_types": ["full_attention" if index % 4 == 3 else "linear_attention" for index in range(32)],
        "tie_word_embeddings": True,
    }
    vision = {"patch_size": 16, "spatial_merge_size": 2, "out_hidden_size": 2560}
    config = Qwen3_5Config(text_config=text, vision_config=vision, tie_word_embeddings=True)
    with torch.device("meta"):
        model = Qwen3_5ForConditionalGeneration(config)
    model.tie_weights()
    return model


def count(module: nn.Module) -> int:
    """Parameters; shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def gathered(part: nn.Module) -> int:
    """Parameters of a part that are whole on every GPU at a time: what is in no layer, and its two largest layers."""
    *layers, _ = sharding_units(part)
    sizes = sorted((count(layer) for layer in layers), reverse=True)
    return count(part) - sum(sizes) + sum(sizes[:2])


def plan(backbone: nn.Module, head: nn.Module, *, frozen: bool) -> list[dict[str, float | str | int]]:
    """Memory per GPU, a row for each strategy and number of GPUs [GiB].

    Args:
        backbone: On the meta device.
        head: On the meta device.
        frozen: Whether the head alone learns.
    """
    total, learning = count(backbone) + count(head), count(head) + (0 if frozen else count(backbone))
    whole = {"backbone": gathered(backbone), "head": gathered(head)}
    with_gradient = sum(size for part, size in whole.items() if not (frozen and part == "backbone"))
    rows: list[dict[str, float | str | int]] = []
    for gpus in (8, 64):
        parts = {
            "ddp": (FLOAT * total, FLOAT * learning, ADAM * learning, 0),
            "zero-2": (
                HALF * total,
                HALF * learning / gpus,
                (FLOAT + ADAM) * learning / gpus,
                0,
            ),
            "fsdp": (
                FLOAT * total / gpus,
                FLOAT * learning / gpus,
                ADAM * learning / gpus,
                FLOAT * (sum(whole.values()) + with_gradient),
            ),
        }
        for name, (weights, gradients, optimizer, passing) in parts.items():
            rows.append(
                {
                    "strategy": name,
                    "gpus": gpus,
                    "weights": weights / GIB,
                    "gradients": gradients / GIB,
                    "optimizer": optimizer / GIB,
                    "gathered": passing / GIB,
                    "total": (weights + gradients + optimizer + passing) / GIB,
                }
            )
    return rows


def main() -> None:
    """Count, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="file to write to")
    results = parser.parse_args().results
    backbone, head = full_backbone(), full_head()
    figures = {
        "provenance": provenance(),
        "backbone_parameters": count(backbone) / 1e9,
        "head_parameters": count(head) / 1e9,
        "everything_learns": plan(backbone, head, frozen=False),
        "head_learns": plan(backbone, head, frozen=True),
    }
    for name in ("everything_learns", "head_learns"):
        print(name)
        for row in figures[name]:
            print("  ", {key: round(value, 1) if isinstance(value, float) else value for key, value in row.items()})
    print(f"backbone {count(backbone):,}, head {count(head):,}")
    if results is not None:
        write_results(results, figures)


if __name__ == "__main__":
    main()
