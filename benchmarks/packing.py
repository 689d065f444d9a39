"""Share of the computed tokens that are real, with padded and with packed rows, and how far their losses are apart.

Run: python benchmarks/packing.py [--results docs/results/packing.json] [--batches 20]

The demo's mixture: Meta-World and ALOHA prompts of configs/size/tiny.yaml with one picture each, and 9 conversations in
100 samples (the paper's share) of one to eight of the same sentences and up to three pictures; `half` has as many
conversations as robots. A batch is 32 samples; the backbones have the tiny sizes, one of each family. What is counted
are the tokens that the language model computes: rows times their length. Pixels are noise, which changes no length.
Losses are in float32: the next-token loss, and the flow-matching loss of a random head with the same noise.
"""

import argparse
import json
import random
from pathlib import Path
from typing import Any

import torch
import yaml

from record import provenance, write_results
from vla_kit.actions import MaskedActions
from vla_kit.backbones.qwen_vl import QwenVLBackbone
from vla_kit.backbones.tiny import tiny_qwen3_5, tiny_qwen3_vl
from vla_kit.data import Collate, Sample
from vla_kit.data.conversations import ConversationSample
from vla_kit.embodiment import EmbodimentPrompter, preset
from vla_kit.flow import BetaTime
from vla_kit.heads import DiTHead
from vla_kit.losses import FlowMatchingLoss
from vla_kit.protocols import Conversation, Message, Picture

TINY = Path(__file__).parents[1] / "examples" / "qwen_vla" / "configs" / "size" / "tiny.yaml"
FAMILIES = {"qwen3_vl": tiny_qwen3_vl, "qwen3_5": tiny_qwen3_5}
MIXTURES = {"demo": 0.09, "half": 0.5}
BATCH, ROW_TOKENS = 32, 1024


def main() -> None:
    """Measure, print and perhaps keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--results", type=Path)
    settings = parser.parse_args()
    rows = [measure(family, mixture, settings.batches) for family in FAMILIES for mixture in MIXTURES]
    for row in rows:
        shares = f"padded {row['padded_share']:.3f}, packed {row['packed_share']:.3f}"
        print(row["family"], row["mixture"], shares, f"difference {row['largest_difference']:.1e}")
    figures = {
        "token_share": min(row["packed_share"] for row in rows if row["mixture"] == "demo"),
        "padded_share": min(row["padded_share"] for row in rows if row["mixture"] == "demo"),
        "largest_difference": max(row["largest_difference"] for row in rows),
        "rows": rows,
        "batch": BATCH,
        "row_tokens": ROW_TOKENS,
    }
    if settings.results is not None:
        write_results(settings.results, {**figures, **provenance()})
    print(json.dumps({"name": "packing", **figures}))


def measure(family: str, mixture: str, batches: int) -> dict[str, Any]:
    """Token shares and losses over some batches."""
    settings = yaml.safe_load(TINY.read_text(encoding="utf-8"))["model"]["backbone"]["init_args"]
    sentences = settings["corpus"][3:]
    plain, packed = (FAMILIES[family](**settings, row_tokens=rows).eval() for rows in (None, ROW_TOKENS))
    prompter = EmbodimentPrompter([preset("metaworld_sawyer"), preset("aloha_transfer")])
    torch.manual_seed(0)
    head = DiTHead(context_width=128, channels=64, width=128, depth=2, num_heads=4, mlp_hidden=384).eval()
    rng = random.Random(0)
    real, computed, difference = 0, {"padded": 0, "packed": 0}, 0.0
    for _ in range(batches):
        samples = [
            conversation(rng, sentences) if rng.random() < MIXTURES[mixture] else robot(rng, sentences)
            for _ in range(BATCH)
        ]
        losses = []
        for name, backbone in (("padded", plain), ("packed", packed)):
            batch_losses, tokens, real_tokens = step(backbone, head, prompter, samples)
            computed[name] += tokens
            losses.append(batch_losses)
        real += real_tokens
        difference = max(difference, float((losses[0] - losses[1]).abs().max()))
    return {
        "family": family,
        "mixture": mixture,
        **{f"{name}_share": real / tokens for name, tokens in computed.items()},
        "largest_difference": difference,
    }


def step(
    backbone: QwenVLBackbone, head: DiTHead, prompter: EmbodimentPrompter, samples: list[Any]
) -> tuple[torch.Tensor, int, int]:
    """Losses of a batch, tokens computed and tokens that are real."""

    def prepare(some: list[Any]) -> dict[str, torch.Tensor]:
        return backbone.prepare(some, with_labels=True)

    batch = Collate(prepare, prompter=prompter, channels=64)(samples)
    with torch.no_grad():
        context = backbone(batch.backbone_inputs)
        found = [context.language_loss]
        robots = len(batch.embodiments)
        if robots:
            known = context.leading(robots, tokens=batch.context_tokens or context.hidden.shape[1])
            actions = MaskedActions(batch.actions.values, batch.actions.mask)
            loss = FlowMatchingLoss(BetaTime(), draws=2)
            found.append(loss(head, actions, known, generator=torch.Generator().manual_seed(0)).mean())
    inputs = batch.backbone_inputs
    return torch.stack(found), inputs["input_ids"].numel(), int(inputs["attention_mask"].sum())


def picture(rng: random.Random) -> torch.Tensor:
    """Noise."""
    return torch.randint(
        256, (3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(rng.randrange(2**31))
    )


def robot(rng: random.Random, sentences: list[str]) -> Sample:
    """What a demonstration of the demo looks like to the backbone."""
    name, size = rng.choice([("metaworld_sawyer", 4), ("aloha_transfer", 14)])
    return Sample(
        embodiment=name,
        instruction=rng.choice(sentences),
        views={"cam_high": picture(rng)},
        actions=torch.rand(16, size) * 2 - 1,
        valid=torch.ones(16, dtype=torch.bool),
        dataset=name,
        episode=0,
        frame=0,
    )


def conversation(rng: random.Random, sentences: list[str]) -> ConversationSample:
    """A caption, a question about several pictures or one without any, of one to eight sentences."""
    seen = [Picture(pixels=picture(rng)) for _ in range(rng.randrange(4))]
    words = [". ".join(rng.choice(sentences) for _ in range(rng.randint(1, most))) for most in (2, 8)]
    messages = (Message(role="user", content=(*seen, words[0])), Message(role="assistant", content=(words[1],)))
    return ConversationSample(conversation=Conversation(messages=messages), dataset="talk", index=0)


if __name__ == "__main__":
    main()
