"""Compares compiled heads with plain ones; run as a script, with the name of a case."""

import copy
import sys
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from vla_kit.actions import MaskedActions
from vla_kit.flow import Euler, UniformTime
from vla_kit.heads import AnchoredHead, DiTHead, PerEmbodimentProjection, StateTokenHead, sample_actions
from vla_kit.heads.compiled import compile_head
from vla_kit.losses import FlowMatchingLoss
from vla_kit.protocols import Context

WIDTH, CHANNELS = 12, 5


def dit(attention: str = "cached", **settings) -> DiTHead:
    return DiTHead(
        context_width=WIDTH,
        channels=CHANNELS,
        width=32,
        depth=2,
        num_heads=2,
        mlp_hidden=48,
        attention=attention,
        **settings,
    )


def inputs(batch: int, tokens: int, horizon: int) -> tuple[Context, MaskedActions]:
    generator = torch.Generator().manual_seed(batch)
    keep = torch.ones(batch, tokens, dtype=torch.bool)
    keep[-1, tokens // 2 :] = False
    mask = torch.ones(batch, horizon, CHANNELS, dtype=torch.bool)
    mask[-1, horizon - 1 :] = False
    mask[..., -1] = False
    context = Context(
        hidden=torch.randn(batch, tokens, WIDTH, generator=generator),
        mask=keep,
        position_ids=torch.arange(tokens).expand(3, batch, tokens),
        embodiments=tuple(["arm", "crane"][number % 2] for number in range(batch)),
        state=torch.randn(batch, 3, generator=generator),
        state_mask=torch.ones(batch, 3, dtype=torch.bool),
    )
    return context, MaskedActions(torch.randn(mask.shape, generator=generator), mask)


def results(head: nn.Module, context: Context, actions: MaskedActions, draws: int) -> list[Tensor]:
    """Loss, gradients and a sampled chunk."""
    head.zero_grad()
    context = replace(context, hidden=context.hidden.clone().requires_grad_())
    loss = FlowMatchingLoss(UniformTime(), draws=draws)
    per_sample = loss(head, actions, context, generator=torch.Generator().manual_seed(0))
    per_sample.mean().backward()
    with torch.inference_mode():
        generator = torch.Generator().manual_seed(0)
        chunk = sample_actions(head, context, actions.mask, solver=Euler(steps=3), generator=generator)
    gradients = [parameter.grad.clone() for parameter in head.parameters() if parameter.grad is not None]
    return [per_sample.detach(), chunk, context.hidden.grad, *gradients]


def check_close(found: Tensor, expected: Tensor) -> None:
    """Agree to 1e-3 of the largest entry: sums of gradients cancel, so a small entry may be off by more of itself."""
    off = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
    assert off < 1e-3, f"{tuple(found.shape)}: {off:.1e}"


def compare(plain: nn.Module, *, whole: bool) -> None:
    torch.manual_seed(0)
    for parameter in plain.parameters():
        nn.init.normal_(parameter, std=0.2)
    compiled = copy.deepcopy(plain)
    if whole:  # one graph for the whole head, or an error
        torch.compile = partial(torch.compile, fullgraph=True)
    compile_head(compiled)
    # Two sizes of each kind; after the first two nothing compiles anew but for the case of one.
    for batch, tokens, horizon, draws in ((3, 7, 4, 2), (2, 9, 5, 3), (4, 12, 6, 2), (5, 16, 7, 3), (1, 6, 4, 2)):
        context, actions = inputs(batch, tokens, horizon)
        before = counters["stats"]["unique_graphs"]
        for found, expected in zip(
            results(compiled, context, actions, draws), results(plain, context, actions, draws), strict=True
        ):
            check_close(found, expected)
        new = counters["stats"]["unique_graphs"] - before
        if whole and batch in (4, 5):
            assert new == 0, f"sizes must not compile anew, got {new} graphs for a batch of {batch}"


def copies() -> None:
    """A copy of a compiled head answers with its own weights, and so does the one that was copied."""
    first = dit()
    for parameter in first.parameters():
        nn.init.normal_(parameter, std=0.2)
    compile_head(first)
    context, actions = inputs(2, 6, 4)
    expected = results(first, context, actions, 2)
    second = copy.deepcopy(first)
    assert list(second.state_dict()) == list(dit().state_dict())
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    noise = torch.randn(actions.mask.shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(results(first, context, actions, 2)[1], torch.where(actions.mask, noise, 0))
    for found, wanted in zip(results(second, context, actions, 2), expected, strict=True):
        check_close(found, wanted)


def main(case: str) -> None:
    if case in ("joint", "cached"):
        compare(dit(case), whole=True)
    elif case == "state_and_anchor":
        inner = AnchoredHead(dit(), context_width=WIDTH, horizon=4)
        compare(StateTokenHead(inner, state_channels=3), whole=True)
    elif case == "per_robot":
        compare(dit(projection=partial(PerEmbodimentProjection, embodiments=["arm", "crane"])), whole=False)
    else:
        copies()


if __name__ == "__main__":
    main(sys.argv[1])
