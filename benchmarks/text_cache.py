"""Time that a frozen backbone takes for a batch of sentences, with their states computed and with them on the disk.

Run: python benchmarks/text_cache.py [--results docs/results/text_cache.json] [--rounds 8] [--threads 1]

Two random Qwen3-VL language models: that of size/tiny.yaml, and one of 256 features and 8 layers, a small step towards
the size that the cache is for. A batch is 32 of 400 prompts, in bfloat16 autocast. `plain` runs the backbone,
`new` fills the cache with the batch, `known` finds all of it there. In every round the three take turns on the same
batch; ratios are taken within a round and their median counts, so a busy machine hurts all alike.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from record import median_interval, provenance, write_results
from vla_kit.backbones.text_cache import CachedTextBackbone
from vla_kit.backbones.tiny import tiny_qwen3_vl
from vla_kit.data.synthesis import sentences
from vla_kit.embodiment import EmbodimentPrompter, preset
from vla_kit.protocols import Observation

SIZES = {"128 x 2": (128, 2), "256 x 8": (256, 8)}
BATCH, PROMPTS = 32, 400


def main() -> None:
    """Measure, print and perhaps keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path)
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    prompter = EmbodimentPrompter([preset("franka_joint")])
    texts = list(islice(sentences("swap"), PROMPTS))
    prompts = [prompter("franka_joint", text, 60 + number % 40) for number, text in enumerate(texts)]
    rows = [measure(name, prompts, settings.rounds) for name in SIZES]
    for row in rows:
        print(row["size"], *(f"{kind} {row[f'{kind}_ms']:.1f} ms" for kind in ("plain", "new", "known")))
    if settings.results is not None:
        write_results(settings.results, {"sizes": rows, "batch": BATCH, **provenance()})
    print(json.dumps({"name": "text_cache", "sizes": rows}))


def measure(name: str, prompts: list[str], rounds: int) -> dict[str, Any]:
    """Medians of one size."""
    hidden, layers = SIZES[name]
    plain = tiny_qwen3_vl(
        corpus=prompts, view_tags=[], hidden=hidden, heads=hidden // 32, text_layers=layers, vision_layers=1
    )
    plain = plain.requires_grad_(False).eval()
    generator = torch.Generator().manual_seed(0)
    seconds: dict[str, list[float]] = {"plain": [], "new": [], "known": []}
    with tempfile.TemporaryDirectory() as folder:
        cached = CachedTextBackbone(plain, folder=folder)
        for round_number in range(rounds + 2):
            chosen = torch.randint(len(prompts), (BATCH,), generator=generator).tolist()
            seen = [Observation(prompt=prompts[index], views={}) for index in chosen]
            took = {"plain": timed(plain, seen)}
            shutil.rmtree(folder)
            took |= {"new": timed(cached, seen), "known": timed(cached, seen)}
            if round_number >= 2:  # the first two warm up
                for kind, value in took.items():
                    seconds[kind].append(value)
    ratios = {
        f"{kind}_ratio": median_interval([p / t for p, t in zip(seconds["plain"], seconds[kind], strict=True)])
        for kind in ("new", "known")
    }
    times = {f"{kind}_ms": 1e3 * statistics.median(values) for kind, values in seconds.items()}
    saving = {key: value["value"] for key, value in ratios.items()}
    return {"size": name, **times, **saving, "intervals": ratios}


def timed(backbone: Callable[..., Any], seen: list[Observation]) -> float:
    """Seconds from observations to states, tokens included."""
    start = time.perf_counter()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        backbone(backbone.prepare(seen))  # type: ignore[attr-defined]
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
