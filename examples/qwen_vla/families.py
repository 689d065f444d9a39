"""One head for all: a single arm, two arms, navigation and human hands, trained together and each on its own.

`python examples/qwen_vla/families.py --output outputs/families --hands EPISODE.npz` records demonstrations, trains one
model per family and one of all families from several seeds, asks each for actions that nobody trained on, and writes
`families.json`: the error of every family in its own unit, on its own and together. Stop it at any time and start it
again: what is done is not done again.

A step of the joint model sees as many samples of each family as a step of that family's own model, and both take as
many steps at the same learning rates: its batch is the batches of all families in one. Held out are the last episodes
of every recorded set. Of hands there is one episode, EPISODE.npz in VITRA's layout: chunks that begin at its even
frames train, those in between are asked for. They overlap, and there is no picture of the hand, so hands show whether
the head has learned this one motion, and no more.
"""

import json
import math
import multiprocessing
import os
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
import yaml
from demo import Clock, DemoTask, features_of, fit, folder_of, git, last_checkpoint, machine, record
from jsonargparse import auto_cli
from scipy.stats import t
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, Subset

from vla_kit.actions import EigengraspBasis, MaskedActions, integrate_waypoints, wrap_angle
from vla_kit.data import ChunkDataset, Collate, Sample, hand_columns
from vla_kit.data.collate import Batch
from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.data.eigengrasp_file import load_eigengrasps, save_eigengrasps
from vla_kit.data.hand_grasps import fit_eigengrasps
from vla_kit.data.readers.vitra import open_vitra
from vla_kit.data.whole_file import write_atomically
from vla_kit.embodiment import History, preset
from vla_kit.evaluation.curves import read_curve
from vla_kit.losses import FlowMatchingLoss
from vla_kit.metrics.hand_error import HandError
from vla_kit.policy import predict_actions
from vla_kit.policy.prediction import read_context
from vla_kit.training.vla_module import VLAModule

JOINT = "joint"
EPISODES = 100  # to record of each task; of a set that has more, the first
HELD_OUT = 0.2  # share of them, the last ones
STRIDE = 4  # frames from one chunk that is asked for to the next
HAND_STRIDE = 2  # of the one episode of hands: from one chunk that trains to the next
CHANNELS = 64

Errors = dict[str, float]
Answer = Callable[[Batch], Tensor]


@dataclass(frozen=True, kw_only=True)
class Family:
    """Robots of one kind.

    Args:
        name: Name in `configs/data/families.yaml`.
        robot: Its embodiment.
        tasks: What is recorded of it; nothing of hands.
        history: Earlier frames that it sees.
        moves: Kind of the channels whose mean error is measured, of a robot that is no agent and no hand.
        measure: What to call that error, with its unit.
    """

    name: str
    robot: str
    tasks: tuple[DemoTask, ...] = ()
    history: History | None = None
    moves: str = ""
    measure: str = ""


FAMILIES = (
    Family(
        name="single_arm",
        robot="metaworld_sawyer",
        tasks=(
            DemoTask(name="metaworld/faucet-open", episodes=EPISODES),
            DemoTask(name="metaworld/faucet-close", episodes=EPISODES),
            DemoTask(name="metaworld/drawer-close", episodes=EPISODES),
        ),
        moves="eef_position",
        measure="position per axis [cm per simulator step]",
    ),
    Family(
        name="two_arms",
        robot="aloha_transfer",
        tasks=(DemoTask(name="aloha/transfer-cube", episodes=EPISODES),),
        moves="joint",
        measure="joint [rad]",
    ),
    Family(
        name="navigation",
        robot="miniworld_agent",
        tasks=(
            DemoTask(name="miniworld/follow-route", episodes=EPISODES, weight=4.3),
            DemoTask(name="miniworld/find-object", episodes=EPISODES, weight=2.3),
            DemoTask(name="miniworld/follow-target", episodes=EPISODES, weight=1.0),
        ),
        history=History(frames=4, rate_hz=2),
    ),
    Family(name="hands", robot="human_hands"),
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model from one seed, with what all runs share."""

    name: str
    seed: int
    output: Path
    steps: int
    samples: int

    @property
    def families(self) -> tuple[Family, ...]:
        """What it learns."""
        return FAMILIES if self.name == JOINT else tuple(one for one in FAMILIES if one.name == self.name)

    @property
    def folder(self) -> Path:
        """Where its training and its result lie."""
        return self.output / "runs" / self.name / f"seed_{self.seed}"

    @property
    def result(self) -> Path:
        """Seconds and errors per family; there when the run is done."""
        return self.folder / "result.json"


def main(
    output: Path,
    hands: Path,
    seeds: int = 3,
    steps: int = 200,
    samples: int = 8,
    workers: int = 2,
    results: Path | None = None,
) -> None:
    """Record, train one model per family and one of all, from every seed, and compare.

    Args:
        output: Folder of everything that is made. Sets that lie in its `data` already are taken as they are.
        hands: An episode of hands, an .npz of VITRA's layout.
        seeds: Models of each kind.
        steps: Optimiser steps of every model.
        samples: Samples of each family per step.
        workers: Runs at a time, each on one core.
        results: Where else to write the table.
    """
    if seeds < 2:
        raise SystemExit(f"seeds must be at least 2, got {seeds}. One pair has no interval.")
    output = output.resolve()
    os.environ |= {"OMP_NUM_THREADS": "1", "LP_NUM_THREADS": "1"}
    gather(output, hands, workers=workers)
    runs = [
        Run(name=name, seed=seed, output=output, steps=steps, samples=samples)
        for seed in range(seeds)
        for name in (*(family.name for family in FAMILIES), JOINT)
    ]
    processes = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=1)
    with processes:
        for run, seconds in zip(runs, processes.map(train_and_ask, runs), strict=True):
            print(f"{run.name}, seed {run.seed}: {seconds / 60:.1f} min", flush=True)
    table = json.dumps(summary(runs, without_looking(output)), indent=2) + "\n"
    for path in (output / "families.json", results):
        if path is not None:
            write_atomically(path, table)
    print(table)


def gather(output: Path, hands: Path, *, workers: int) -> None:
    """Record what is not there yet, take the hands, and fit the eigengrasps to them."""
    for task in (task for family in FAMILIES for task in family.tasks):
        folder = output / "data" / folder_of(task.name)
        if not folder.exists():
            record(task, folder, episodes=task.episodes, workers=workers)
    if not basis_file(output).exists():
        folder = output / "data" / "hands"
        folder.mkdir(parents=True, exist_ok=True)
        for file in (hands, hands.with_suffix(".meta.json")):
            shutil.copy(file, folder)
        save_eigengrasps(fit_eigengrasps([open_vitra(folder)]), basis_file(output))


def basis_file(output: Path) -> Path:
    """Where the eigengrasps lie."""
    return output / "data" / "eigengrasps.safetensors"


def sets_of(family: Family, output: Path) -> list[DemonstrationSet]:
    """What a family trains on."""
    if not family.tasks:
        return [
            DemonstrationSet(
                root=str(output / "data" / "hands"),
                embodiment=family.robot,
                actions=hand_columns("wrist"),
                rate_hz=preset(family.robot).rate_hz,
                options={"basis": str(basis_file(output))},
                stride=HAND_STRIDE,
            )
        ]
    return [
        DemonstrationSet(
            root=str(output / "data" / folder_of(task.name)),
            embodiment=family.robot,
            views=features_of(task.name),
            history=family.history,
            weight=task.weight,
            num_episodes=training_episodes(task),
            cache_frames=True,
        )
        for task in family.tasks
    ]


def training_episodes(task: DemoTask) -> int:
    """How many of the first episodes train."""
    return task.episodes - round(HELD_OUT * task.episodes)


def training_chunks(family: Family, output: Path) -> Dataset[Sample]:
    """Every chunk that a family trains on, without pictures."""
    horizon, chunks = preset(family.robot).chunk_size, []
    for one in sets_of(family, output):
        reader = one.open(with_views=False)
        chunks.append(ChunkDataset(reader, horizon=horizon, stride=one.stride, episodes=one.episodes(reader)))
    return ConcatDataset(chunks)


def held_out_chunks(family: Family, output: Path, *, with_views: bool = True) -> Dataset[Sample]:
    """The chunks that are asked for."""
    horizon, chunks = preset(family.robot).chunk_size, []
    for one, task in zip_longest(sets_of(family, output), family.tasks):
        reader = replace(one, cache_frames=False).open(with_views=with_views)
        if task is None:
            every = ChunkDataset(reader, horizon=horizon)
            return Subset(every, [frame for frame in range(len(every)) if frame % one.stride])
        rest = range(training_episodes(task), task.episodes)
        chunks.append(ChunkDataset(reader, horizon=horizon, stride=STRIDE, history=one.history, episodes=rest))
    return ConcatDataset(chunks)


def train_and_ask(run: Run) -> float:
    """Do what is left of a run; seconds that it took over all starts."""
    if run.result.exists():
        return float(json.loads(run.result.read_text())["seconds"])
    run.folder.mkdir(parents=True, exist_ok=True)
    clock = Clock(run.folder / "seconds.json")
    fit(
        ["stage3_sft", "time/near_noise", "data/families"],
        write_settings(run),
        run.folder,
        run.steps,
        clock,
        part=f"{run.name}, seed {run.seed}",
        extra=["size/tiny_families"],
    )
    module = VLAModule.load_from_checkpoint(last_checkpoint(run.folder), weights_only=True, map_location="cpu").eval()
    with clock.measure("questions"):
        errors = {family.name: ask(module, family, run) for family in run.families}
    seen = json.loads((run.folder / "status.json").read_text())["seen_families"]
    result = {
        "seconds": sum(clock.seconds.values()),
        "errors": errors,
        "seen": {family.name: seen[family.name]["samples"] for family in run.families},
        "logged": {family.name: last_losses(run.folder, family) for family in run.families},
    }
    write_atomically(run.result, json.dumps(result))
    return float(result["seconds"])


def write_settings(run: Run) -> Path:
    """Write what the run changes of `configs/data/families.yaml`: folders, equal shares, batch and seed."""
    sets = {family.name: sets_of(family, run.output) for family in run.families}
    named = {Path(one.root).name: name for name, some in sets.items() for one in some}
    shares = {
        "class_path": "vla_kit.data.family_shares.FamilyShares",
        "init_args": {"shares": dict.fromkeys(sets, 1.0), "families": named},
    }
    data = {
        "sets": [asdict(one) for some in sets.values() for one in some],
        "shares": shares,
        "batch_size": run.samples * len(sets),
        "validation_share": 0.0,  # the last episodes are held out already
        "seed": run.seed,
    }
    model = {
        "backbone": {"init_args": {"seed": run.seed}},
        "hand_basis": {"init_args": {"path": str(basis_file(run.output))}},
    }
    settings = {"seed_everything": run.seed, "model": model, "data": {"init_args": data}}
    path = run.folder / "settings.yaml"
    write_atomically(path, yaml.safe_dump(settings))
    return path


def last_losses(folder: Path, family: Family) -> float:
    """Mean of the last quarter of a family's own log."""
    losses = [value for _, value in read_curve(folder, f"train/loss/{family.robot}")]
    return statistics.fmean(losses[-max(1, len(losses) // 4) :])


def ask(module: VLAModule, family: Family, run: Run) -> Errors:
    """Errors of sampled actions in the family's unit, and the flow loss, with the same noise for every model.

    Whole chunks are asked for, also where the episode ends sooner: how many steps are left would tell when it is.
    """
    collate = Collate(module.prepare, prompter=module.prompter, channels=module.channels)
    chunks = held_out_chunks(family, run.output)
    flow = FlowMatchingLoss(module.flow_loss.time_sampler, draws=8)
    generator = torch.Generator().manual_seed(0)
    losses: list[float] = []

    def answer(batch: Batch) -> Tensor:
        actions = module.normalizer.normalize(batch.actions, batch.embodiments)
        context = read_context(batch.backbone_inputs, batch.embodiments, backbone=module.backbone)
        losses.extend(flow(module.head, actions, context, generator=generator).tolist())
        return predict_actions(
            batch.backbone_inputs,
            batch.actions.mask.any(dim=1, keepdim=True).expand_as(batch.actions.mask),
            batch.embodiments,
            backbone=module.backbone,
            head=module.head,
            normalizer=module.normalizer,
            solver=module.solver,
            generator=generator,
        ).values

    found = errors_of(family, *answers(chunks, collate, answer), load_eigengrasps(basis_file(run.output)))
    return {**found, "flow loss": statistics.fmean(losses)}


def answers(chunks: Dataset[Sample], collate: Collate, answer: Answer) -> tuple[Tensor, MaskedActions]:
    """Answers to all chunks, and what was right."""
    items: Any = chunks  # which have a length
    given, values, mask = [], [], []
    with torch.inference_mode():
        for first in range(0, len(items), 32):
            batch = collate([items[index] for index in range(first, min(first + 32, len(items)))])
            given.append(answer(batch))
            values.append(batch.actions.values)
            mask.append(batch.actions.mask)
    return torch.cat(given), MaskedActions(torch.cat(values), torch.cat(mask))


def errors_of(family: Family, given: Tensor, right: MaskedActions, basis: EigengraspBasis) -> Errors:
    """Mean errors over known steps, in the family's own unit."""
    if family.robot == "human_hands":
        metric = HandError(basis)
        metric.update(given, right.values, right.mask)
        found = metric.compute()
        return {"wrist [cm]": float(found["wrist_cm"]), "wrist [degree]": float(found["wrist_deg"])}
    if family.robot == "miniworld_agent":
        return waypoint_errors(given[..., :3], right.values[..., :3], right.mask[..., 0])
    channels = preset(family.robot).action_space.channels
    places = [place for place, channel in enumerate(channels) if channel.kind == family.moves]
    off = (given - right.values)[..., places].abs()
    return {family.measure: float(off[right.mask[..., places]].mean())}


def waypoint_errors(given: Tensor, right: Tensor, known: Tensor) -> Errors:
    """How far from the right ones the poses are to which a chunk leads, and how far they are turned."""
    start = given.new_zeros(len(given), 3)
    reached, meant = (integrate_waypoints(torch.where(known[..., None], one, 0), start) for one in (given, right))
    away = (reached - meant)[..., :2].norm(dim=-1)
    turned = wrap_angle(reached[..., 2] - meant[..., 2]).abs()
    return {
        "waypoint [m]": float(away[known].mean()),
        "waypoint [degree]": float(torch.rad2deg(turned[known]).mean()),
    }


def without_looking(output: Path) -> dict[str, dict[str, Any]]:
    """Errors of two answers that see and read nothing: the mean chunk of the training data, and no motion."""
    collate = Collate(lambda _: {}, prompter=lambda *_: "", channels=CHANNELS)
    basis = load_eigengrasps(basis_file(output))
    found: dict[str, dict[str, Any]] = {}
    for family in FAMILIES:
        chunks = held_out_chunks(family, output, with_views=False)
        mean = mean_chunk(training_chunks(family, output), collate)
        given, right = answers(chunks, collate, partial(_always, mean))
        found[family.name] = {"samples": len(given), "mean_chunk": errors_of(family, given, right, basis)}
        if preset(family.robot).action_space.channels[0].reference == "delta":
            found[family.name]["no_motion"] = errors_of(family, torch.zeros_like(given), right, basis)
    return found


def _always(chunk: Tensor, batch: Batch) -> Tensor:
    return chunk.expand_as(batch.actions.values)


def mean_chunk(chunks: Dataset[Sample], collate: Collate) -> Tensor:
    """Mean over the chunks that know an entry; 0 where none does."""
    _, actions = answers(chunks, collate, lambda batch: batch.actions.values)
    known = actions.mask.sum(dim=0, keepdim=True).clamp(min=1)
    return torch.where(actions.mask, actions.values, 0).sum(dim=0, keepdim=True) / known


def summary(runs: Sequence[Run], blind: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Errors of every family on its own and together, their differences over the seeds, and what each log said."""
    found = {(run.name, run.seed): json.loads(run.result.read_text()) for run in runs}
    seeds = sorted({run.seed for run in runs})
    rows, logs = [], []
    for family in FAMILIES:
        pairs = [(found[family.name, seed], found[JOINT, seed]) for seed in seeds]
        for measure in pairs[0][0]["errors"][family.name]:
            single, joint = ([one["errors"][family.name][measure] for one in side] for side in zip(*pairs, strict=True))
            difference, low, high = paired(joint, single)
            rows.append(
                {
                    "family": family.name.replace("_", " "),
                    "error": measure,
                    "single": statistics.fmean(single),
                    "joint": statistics.fmean(joint),
                    "difference": difference,
                    "low": low,
                    "high": high,
                    "percent": difference / statistics.fmean(single),
                    "joint_is": "worse" if low > 0 else "better" if high < 0 else "within noise",
                    "mean_chunk": blind[family.name]["mean_chunk"].get(measure),
                    "no_motion": blind[family.name].get("no_motion", {}).get(measure),
                    "samples": blind[family.name]["samples"],
                    "per_seed": {"single": single, "joint": joint},
                }
            )
        logs.append(
            {
                "family": family.name.replace("_", " "),
                "log": f"train/loss/{family.robot}",
                **{
                    f"{key}_{side}": statistics.fmean(one[key][family.name] for one in of)
                    for key in ("logged", "seen")
                    for side, of in zip(("single", "joint"), zip(*pairs, strict=True), strict=True)
                },
            }
        )
    return {
        "rows": rows,
        "logs": logs,
        "joint_is": {said: told(rows, said) for said in ("worse", "better", "within noise")},
        "seeds": len(seeds),
        "steps": runs[0].steps,
        "samples_per_family_and_step": runs[0].samples,
        "minutes": {
            name: statistics.fmean(found[name, seed]["seconds"] for seed in seeds) / 60
            for name in dict.fromkeys(run.name for run in runs)
        },
        "command": "python examples/qwen_vla/families.py --output outputs/families --hands EPISODE.npz",
        "commit": git("describe", "--always", "--dirty", "--exclude", "*") or "unknown",
        "date": datetime.now(tz=UTC).date().isoformat(),
        "machine": machine(),
    }


def told(rows: Sequence[Mapping[str, Any]], said: str) -> str:
    """The errors of which the joint model is said to be this, as words."""
    return ", ".join(f"{row['family']} in {row['error']}" for row in rows if row["joint_is"] == said) or "nothing"


def paired(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """Mean difference, first less second, with Student's 95 % interval over the pairs."""
    differences = [one - other for one, other in zip(first, second, strict=True)]
    mean = statistics.fmean(differences)
    half = float(t.ppf(0.975, len(differences) - 1)) * statistics.stdev(differences) / math.sqrt(len(differences))
    return mean, mean - half, mean + half


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
