"""Our action head against the action expert of transformers' `PI0ForConditionalGeneration`, on this machine.

Run: python benchmarks/pi0_expert.py [--repeats 11] [--blocks 2] [--results docs/results/training.json] ...

Both have random weights, the same width, number of blocks and heads and, to within one percent, the same number of
parameters; the hidden width of PI0's SwiGLU is chosen so. Both see the same tokens: the context, one token of the
robot's state, 16 noisy actions. Both know the same backbone through one linear layer.

What differs: PI0 gives its keys and values one head, adds time to the actions instead of modulating every block with
it, and uses RMSNorm. Ours, in mode "cached", modulates, which takes a fifth of the parameters and works on one vector
per sample. PI0 as a whole has no pass of the expert over the context: layers of the backbone, as many as the expert has
and with heads of its shape, hand over their keys and values. The head of this library takes any backbone and makes keys
and values itself. So three questions are timed, and each row says who `pays` for the context:

    both     PI0's expert runs over the context too, its last block only as far as keys and values go, as ours does.
             Equal tokens pass through equal parameters. These rows decide; `ratio` is the smallest of them
    neither  keys and values of the context are there; the solver's steps alone
    ours     a whole chunk with ours, the solver's steps alone with PI0: what a backbone that fits PI0 saves

"training" is loss, forward and backward with one draw per sample; "sampling" is a chunk in 10 Euler steps. The two take
turns; a round gives one ratio of times, PI0 / ours, and the median of the rounds counts. The last line is JSON.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PI0Config, PI0ForConditionalGeneration
from transformers.masking_utils import create_causal_mask
from transformers.models.gemma.modeling_gemma import apply_rotary_pos_emb

from head_sizes import HeadSize, sizes
from record import provenance, take_turns, times_faster, write_results
from vla_kit.actions import MaskedActions
from vla_kit.flow import BetaTime, Euler
from vla_kit.heads import StateTokenHead, sample_actions
from vla_kit.losses import FlowMatchingLoss
from vla_kit.protocols import Context

GOAL = 1.0
STATE = 32


def main() -> None:
    """Measure, print and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = {"batch": 2, "tokens": 256, "horizon": 16, "steps": 10, "blocks": 2, "repeats": 11, "threads": 2}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--results", type=Path, help="file of docs/results to write the figures to")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    rows: list[dict[str, Any]] = []
    for label, size in sizes(settings.blocks).items():
        ours, theirs = Ours(size, settings), Theirs(size, settings)
        counts = [sum(parameter.numel() for parameter in side.parameters()) for side in (ours, theirs)]
        if abs(counts[0] / counts[1] - 1) > 0.01:
            raise SystemExit(f"both sides must have the same number of parameters, got {counts}.")
        pairs: list[tuple[str, str, Callable[[], object], Callable[[], object]]] = [
            ("training", "both", ours.train_step, theirs.train_step),
            ("sampling", "both", ours.sample, theirs.sample),
            ("sampling", "neither", ours.steps_alone(), theirs.steps_alone()),
            ("sampling", "ours", ours.sample, theirs.steps_alone()),
        ]
        for what, pays, mine, other in pairs:
            with torch.set_grad_enabled(what == "training"):
                seconds = take_turns({"pi0": other, "ours": mine}, repeats=settings.repeats)
            row = {"size": label, "what": what, "pays": pays, "parameters": counts[0] / 1e6}
            rows.append(row | times_faster(seconds, slow="pi0", fast="ours"))
            print(rows[-1], flush=True)
    ratio = round(min(row["value"] for row in rows if row["pays"] == "both"), 2)
    if settings.results:
        setting = {name: getattr(settings, name) for name in ("batch", "tokens", "horizon", "steps", "threads")}
        write_results(
            settings.results,
            {"pi0_ratio": ratio, "pi0": {"goal": GOAL, "comparisons": rows, **setting} | provenance()},
        )
    print(json.dumps({"name": "pi0_expert", "ratio": ratio, "goal": GOAL}))


class Ours(nn.Module):
    """`DiTHead` in mode "cached" with the robot's state as a token."""

    def __init__(self, size: HeadSize, settings: argparse.Namespace) -> None:
        super().__init__()
        self.head = StateTokenHead(size.build("cached"), state_channels=STATE)
        self.solver = Euler(steps=settings.steps)
        self.loss = FlowMatchingLoss(BetaTime(), draws=1)
        self.batch = inputs(size, settings, settings.batch)
        self.seen = inputs(size, settings, 1)

    def train_step(self) -> None:
        context, actions = self.batch
        self.zero_grad()
        context.hidden.requires_grad_().grad = None
        self.loss(self.head, actions, context).mean().backward()

    def sample(self) -> Tensor:
        context, actions = self.seen
        return sample_actions(self.head, context, actions.mask, solver=self.solver)

    def steps_alone(self) -> Callable[[], object]:
        context, actions = self.seen
        with torch.no_grad():
            conditioned = self.head.condition(context)
        mask, noise = actions.mask, torch.randn(actions.mask.shape)
        return lambda: self.solver(lambda noisy, time: self.head(noisy, time, conditioned, mask), noise)


class Theirs(nn.Module):
    """PI0 without its backbone: expert, embeddings of actions, state and time, projection of the velocity."""

    def __init__(self, size: HeadSize, settings: argparse.Namespace) -> None:
        super().__init__()
        self.solver_steps = settings.steps
        self.batch = inputs(size, settings, settings.batch)
        self.seen = inputs(size, settings, 1)
        wanted = sum(parameter.numel() for parameter in Ours(size, settings).parameters())
        with torch.device("meta"):
            smallest = PI0ForConditionalGeneration(pi0_config(size, settings.horizon, mlp_hidden=1))
        missing = wanted - sum(parameter.numel() for parameter in expert_of(smallest).parameters())
        missing -= (size.context_width + 1) * size.width
        mlp_hidden = 1 + round(missing / (3 * size.width * size.depth))
        self.context_projection = nn.Linear(size.context_width, size.width)
        pi0 = PI0ForConditionalGeneration(pi0_config(size, settings.horizon, mlp_hidden=mlp_hidden))
        self.expert = expert_of(pi0)
        self._pi0 = [pi0]  # out of sight of parameters(), which would count the backbone too

    def train_step(self) -> None:
        context, actions = self.batch
        self.zero_grad()
        context.hidden.requires_grad_().grad = None
        self._pi0[0](
            state=context.state,
            actions=actions.values,
            attention_mask=context.mask.long(),
            cache=self.prefix(context),
        ).loss.backward()

    def sample(self) -> Tensor:
        return self.denoise(self.prefix(self.seen[0]))

    def steps_alone(self) -> Callable[[], object]:
        with torch.no_grad():
            cache = self.prefix(self.seen[0])
        return lambda: self.denoise(cache)

    def prefix(self, context: Context) -> DynamicCache:
        """Keys and values of the context from the expert's own layers; of its last one nothing else is computed."""
        expert, mask = self.expert["dit"], context.mask.long()
        tokens = self.context_projection(context.hidden)
        cache = DynamicCache(config=expert.config)
        keep = create_causal_mask(
            config=expert.config,
            inputs_embeds=tokens,
            attention_mask=mask,
            cache=cache,
            block_sequence_ids=torch.zeros_like(mask),
        )
        angles = expert.rotary_emb(tokens, position_ids=mask.cumsum(-1) - 1)
        *earlier, last = expert.layers
        for layer in earlier:
            tokens = layer(tokens, attention_mask=keep, cache=cache, position_embeddings=angles)
        attention, normed = last.self_attn, last.input_layernorm(tokens)
        shape = (*normed.shape[:-1], -1, attention.head_dim)
        key = attention.k_proj(normed).view(shape).transpose(1, 2)
        _, key = apply_rotary_pos_emb(key, key, *angles)
        cache.update(key, attention.v_proj(normed).view(shape).transpose(1, 2), attention.layer_idx)
        return cache

    def denoise(self, cache: DynamicCache) -> Tensor:
        """The loop of PI0's `sample_actions`."""
        context, actions = self.seen
        prefix, noise = cache.get_seq_length(), torch.randn(actions.mask.shape)
        for step in range(self.solver_steps):
            output = self._pi0[0](
                state=context.state,
                noise=noise,
                timestep=torch.full(noise.shape[:1], 1 - step / self.solver_steps),
                attention_mask=context.mask.long(),
                cache=cache,
            )
            cache.crop(prefix - cache.get_seq_length())
            noise = noise - output.logits / self.solver_steps
        return noise


def pi0_config(size: HeadSize, horizon: int, *, mlp_hidden: int) -> PI0Config:
    """An expert of this size on a backbone that is as small as can be; ours is not timed, nor is theirs."""
    heads = {
        "num_hidden_layers": size.depth,
        "num_attention_heads": size.num_heads,
        "num_key_value_heads": 1,
        "head_dim": size.width // size.num_heads,
    }
    text = {"model_type": "gemma", "hidden_size": 8, "intermediate_size": 8, "vocab_size": 8, **heads}
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "image_size": 28,
        "patch_size": 14,
        "vision_use_head": False,
    }
    return PI0Config(
        vlm_config={
            "model_type": "paligemma",
            "text_config": text,
            "vision_config": vision,
            "projection_dim": 8,
            "image_token_id": 7,
        },
        dit_config={"model_type": "gemma", "hidden_size": size.width, "intermediate_size": mlp_hidden, **heads},
        chunk_size=horizon,
        max_action_dim=size.channels,
        max_state_dim=STATE,
    )


def expert_of(pi0: PI0ForConditionalGeneration) -> nn.ModuleDict:
    """What PI0 has beside its backbone."""
    return nn.ModuleDict({"dit": pi0.model.dit, "into": pi0.embed_action_time, "out": pi0.action_out_proj})


def inputs(size: HeadSize, settings: argparse.Namespace, batch: int) -> tuple[Context, MaskedActions]:
    """Context with the robot's state, and actions."""
    context = size.context(batch=batch, tokens=settings.tokens)
    state = torch.randn(batch, STATE, generator=torch.Generator().manual_seed(3))
    known = Context(
        hidden=context.hidden,
        mask=context.mask,
        position_ids=context.position_ids,
        state=state,
        state_mask=torch.ones_like(state, dtype=torch.bool),
    )
    return known, size.actions(batch=batch, horizon=settings.horizon)


if __name__ == "__main__":
    main()
