"""Error of the first chunk of a handover, predicted actions around a readout against predicted velocities.

Run: python benchmarks/anchored_head.py [--steps 500] [--episodes 300] [--results FILE] ...

Records handovers of gym-aloha, trains the same backbone and DiT twice on them, as `AnchoredHead` and plain, and asks
both for the first chunk of fresh episodes. What they miss is where the cube lies: all else is the same every time. The
last line of the output is JSON: the error with the anchored head relative to that without, both errors, and the ratio
that this repository wants to stay below. Needs the extra `aloha`; takes about six minutes on two cores.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import count, islice
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from record import provenance, write_results
from vla_kit.actions import MaskedActions, QuantileNormalizer, QuantileStats
from vla_kit.backbones.qwen_vl import QwenVLBackbone
from vla_kit.backbones.tiny import tiny_qwen3_vl
from vla_kit.embodiment import EmbodimentPrompter, preset
from vla_kit.envs import find_task, make_env
from vla_kit.envs.collect import RecordedEpisode, collect
from vla_kit.evaluation.seeds import TRAINING_SEEDS_FROM, evaluation_seeds
from vla_kit.flow import BetaTime, Euler
from vla_kit.heads import AnchoredHead, DiTHead
from vla_kit.losses import FlowMatchingLoss
from vla_kit.policy import predict_actions
from vla_kit.policy.observation import image_tensor
from vla_kit.protocols import Observation
from vla_kit.training.schedule import warmup_cosine

GOAL = 0.3
TASK = find_task("aloha/transfer-cube")
ROBOT = TASK.embodiment
SPEC = preset(ROBOT)
WIDTH = 128


def main() -> None:
    """Record, train twice and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("steps", 500), ("episodes", 300), ("fresh", 100), ("batch", 32), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--results", type=Path, help="JSON file to add the figures to")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    seeds = count(TRAINING_SEEDS_FROM)
    shaken = collect(partial(make_env, TASK.name), seeds, disturbance=TASK.disturbance, workers=settings.threads)
    training = record(shaken, settings.episodes)
    fresh_seeds = evaluation_seeds(2 * settings.fresh, offset=9000)
    fresh = record(collect(partial(make_env, TASK.name), fresh_seeds, workers=settings.threads), settings.fresh)
    normalizer = QuantileNormalizer()
    frames = torch.cat([torch.from_numpy(episode.actions) for episode in training])
    normalizer.add(ROBOT, QuantileStats.from_frames(frames), SPEC.action_space)
    errors = {
        name: train_and_measure(name == "anchored", training, fresh, normalizer, settings.steps, settings.batch)
        for name in ("plain", "anchored")
    }
    figures = {"ratio": errors["anchored"] / errors["plain"], "goal": GOAL, "fresh_episodes": len(fresh)}
    figures |= {f"{name}_error_rad": error for name, error in errors.items()}
    if settings.results is not None:
        write_results(settings.results, {"anchored_head": figures | provenance()})
    print(json.dumps({"name": "anchored_head", **figures}))


def record(episodes: Iterable[RecordedEpisode], wanted: int) -> list[RecordedEpisode]:
    """The first successful episodes."""
    solved = (episode for episode in episodes if episode.success)
    return list(track(islice(solved, wanted), total=wanted, description="record"))


def train_and_measure(
    anchored: bool,
    training: Sequence[RecordedEpisode],
    fresh: Sequence[RecordedEpisode],
    normalizer: QuantileNormalizer,
    steps: int,
    batch: int,
) -> float:
    """Train on the chunks at which the policy will be asked; mean error of the first chunk of fresh episodes [rad]."""
    prompter = EmbodimentPrompter([SPEC])
    prompts = [prompter(ROBOT, sentence) for sentence in TASK.sentences]
    backbone = tiny_qwen3_vl(corpus=prompts, view_tags=["cam_high"], patch_size=16, hidden=WIDTH)
    torch.manual_seed(0)
    dit = DiTHead(
        context_width=WIDTH, channels=64, width=WIDTH, depth=2, num_heads=4, mlp_hidden=384, attention="cached"
    )
    head = AnchoredHead(dit, context_width=WIDTH, horizon=SPEC.chunk_size) if anchored else dit
    parts = nn.ModuleList([backbone, head])
    optimizer = torch.optim.AdamW(parts.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, partial(warmup_cosine, warmup_steps=50, total_steps=steps, final=0.0)
    )
    loss = FlowMatchingLoss(BetaTime(alpha=8.0, beta=1.0), draws=2)
    places = [(episode, frame) for episode in training for frame in range(0, len(episode.actions), SPEC.chunk_size)]
    for _ in track(range(steps), description="anchored" if anchored else "plain"):
        drawn = [places[index] for index in torch.randint(len(places), (batch,)).tolist()]
        inputs, actions = prepare(drawn, backbone, prompter)
        with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):
            value = loss(head, normalizer.normalize(actions, [ROBOT] * batch), backbone(inputs)).mean()
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    parts.eval()
    inputs, actions = prepare([(episode, 0) for episode in fresh], backbone, prompter)
    with torch.inference_mode():
        predicted = predict_actions(
            inputs,
            actions.mask,
            [ROBOT] * len(fresh),
            backbone=backbone,
            head=head,
            normalizer=normalizer,
            solver=Euler(steps=4),
            generator=torch.Generator().manual_seed(0),
            temperature=0.3,
        )
    joints = torch.tensor([channel.unit == "rad" for channel in SPEC.action_space.channels])
    wanted = actions.mask[..., : len(joints)] & joints
    missed = (predicted.values - actions.values)[..., : len(joints)][wanted]
    return float(missed.abs().mean())


def prepare(
    places: Sequence[tuple[RecordedEpisode, int]], backbone: QwenVLBackbone, prompter: EmbodimentPrompter
) -> tuple[dict[str, Tensor], MaskedActions]:
    """Backbone inputs and native actions of some frames."""
    observations = [
        Observation(
            prompt=prompter(ROBOT, episode.instruction),
            views={tag: image_tensor(seen[frame], tag=tag) for tag, seen in episode.frames.items()},
        )
        for episode, frame in places
    ]
    chunks = [torch.from_numpy(episode.actions[frame : frame + SPEC.chunk_size]) for episode, frame in places]
    return backbone.prepare(observations), MaskedActions.pad(chunks, channels=64, horizon=SPEC.chunk_size)


if __name__ == "__main__":
    main()
