"""The action expert: a diffusion transformer over one sequence of context and action tokens."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vla_kit.errors import EmbodimentError, SettingError, ShapeError
from vla_kit.heads.blocks import DiTBlock, Modulation, attend, normalise, over_tokens
from vla_kit.heads.conditioned import Conditioned, check_context, next_position
from vla_kit.heads.projection import ActionProjection
from vla_kit.heads.rope import default_sections, rotary_angles, validate_sections
from vla_kit.heads.time_features import TIME_FEATURES, time_features
from vla_kit.protocols import Context

__all__ = ["DiTHead"]


class DiTHead(nn.Module):
    """Velocity of noisy actions, given a context: single stream, AdaLN-zero time conditioning, M-RoPE.

    Context tokens pass one linear layer, actions a two-layer network, and both form one sequence. Context tokens keep
    their three-axis positions; action step `h` stands at (largest real position of its sample) + 1 + h on all axes.
    Padded tokens and padded steps are neither seen by others nor answered: their velocity is exactly 0.

    Two attention modes share the same parameters:

    - `"joint"`: every real token sees every real token, and time modulates all of them, as the paper says. Every
      solver step pays for the whole sequence.
    - `"cached"`: context tokens see context only and are modulated at time 0, the time of clean data, whatever the time
      of the actions. Their keys and values are then the same at every flow time, so one pass serves all solver steps
      and all noise draws.

    Weights trained in one mode are not meant for the other. A new head answers 0 everywhere.

    Where the steps of a chunk have times of their own, because its beginning is known and clean, each step is modulated
    by its time, and in mode "joint" the context by the latest time of its chunk.

    Args:
        context_width: Features of a context token, the backbone's `width`.
        channels: Padded action width.
        width: Features of a token inside the head.
        depth: Number of blocks.
        num_heads: Attention heads; `width / num_heads` must be even.
        mlp_hidden: Hidden features of SwiGLU in each block.
        attention: "joint" or "cached", see above.
        sections: Rotated pairs of a head on the axes (time, height, width). Twice their sum may be below the head's
            width; the rest is not rotated. None rotates the whole head in even shares.
        rope_theta: Base of the rotary frequencies; use the backbone's.
        projection: Makes an `ActionProjection` of `channels` and `width`, such as
            `partial(PerEmbodimentProjection, embodiments=["arm"])`; contexts must then name their robots. None is the
            paper's choice: zero padding into one network that all robots share.

    Raises:
        SettingError: If a size is below 1, `width` does not divide into even heads, `sections` do not fit,
            `attention` is unknown, or `projection` makes something else.

    Examples:
        >>> import torch
        >>> from vla_kit.protocols import Context
        >>> head = DiTHead(context_width=6, channels=4, width=16, depth=2, num_heads=2, mlp_hidden=32)
        >>> context = Context(
        ...     hidden=torch.randn(2, 5, 6),
        ...     mask=torch.ones(2, 5, dtype=torch.bool),
        ...     position_ids=torch.arange(5).expand(3, 2, 5),
        ... )
        >>> noisy_actions, mask = torch.randn(2, 3, 4), torch.ones(2, 3, 4, dtype=torch.bool)
        >>> head(noisy_actions, torch.tensor([0.1, 0.9]), context, mask).shape
        torch.Size([2, 3, 4])

        The paper's size, without allocating it:

        >>> with torch.device("meta"):
        ...     table = DiTHead(context_width=2560).parameter_table()
        >>> {name: f"{count / 1e6:.1f} M" for name, count in table.items()}
        {'blocks': '1132.6 M', 'action_mlps': '4.9 M', 'context_projection': '3.9 M', 'time_embedding': '2.8 M',
        'output_modulation': '4.7 M'}

    Source:
        Qwen-VLA, arXiv 2605.30280, section 2.2 and its parameter table. The paper gives neither the number of heads
        (24 of 64 lets the backbone's rotary sections be reused unchanged), nor the mask inside the head (all real
        tokens), nor the time features (256 sinusoids of 1000 * time, as in DiT), nor the rotary base (that of
        Qwen3.5). "cached" is ours.
    """

    def __init__(
        self,
        *,
        context_width: int,
        channels: int = 64,
        width: int = 1536,
        depth: int = 16,
        num_heads: int = 24,
        mlp_hidden: int = 10240,
        attention: Literal["joint", "cached"] = "joint",
        sections: Sequence[int] | None = None,
        rope_theta: float = 1e7,
        projection: Callable[[int, int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("context_width", context_width), ("channels", channels), ("depth", depth)):
            if value < 1:
                raise SettingError(f"{name} must be at least 1, got {value}. The paper's size is 2560, 64 and 16.")
        if attention not in ("joint", "cached"):
            raise SettingError(f"attention must be 'joint' or 'cached', got {attention!r}. 'joint' is the paper's.")
        if not (math.isfinite(rope_theta) and rope_theta > 1):
            raise SettingError(
                f"rope_theta must be above 1 and finite, got {rope_theta}. Use the backbone's, like 1e7."
            )
        self.blocks = nn.ModuleList(
            DiTBlock(width=width, num_heads=num_heads, mlp_hidden=mlp_hidden) for _ in range(depth)
        )
        head_width = width // num_heads
        if head_width % 2:
            raise SettingError(
                f"num_heads must divide width {width} into heads of even width, got {num_heads}. Rotary needs pairs."
            )
        self.sections = validate_sections(
            default_sections(head_width) if sections is None else sections, head_width=head_width
        )
        self.rope_theta = rope_theta
        self.attention = attention
        self.context_width = context_width
        self.channels = channels
        self.width = width
        self.depth = depth
        self.num_heads = num_heads
        self.mlp_hidden = mlp_hidden
        self.context_projection = nn.Linear(context_width, width)
        self.projection: Any = None
        if projection is None:
            self.action_in = nn.Sequential(nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, width))
            self.action_out = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, channels))
        else:
            self.projection = _checked(projection(channels, width))
        self.time_embedding = nn.Sequential(nn.Linear(TIME_FEATURES, width), nn.SiLU(), nn.Linear(width, width))
        self.output_modulation = nn.Linear(width, 2 * width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew, e.g. after `to_empty` on a head built on the meta device."""
        for block in self._blocks():
            block.reset_parameters()
        shared = [] if self.projection is not None else [self.action_in, self.action_out]
        for part in (self.context_projection, *shared, self.time_embedding):
            for layer in part.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_uniform_(layer.weight)
                    nn.init.zeros_(layer.bias)
        for layer in (self.output_modulation, *(part[-1] for part in shared[1:])):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
        if self.projection is not None:
            self.projection.reset_parameters()

    def parameter_table(self) -> dict[str, int]:
        """Parameters per part, in the rows of the paper's table; they sum to all parameters of the head."""
        parts: dict[str, list[nn.Module]] = {
            "blocks": [self.blocks],
            "action_mlps": [self.action_in, self.action_out] if self.projection is None else [self.projection],
            "context_projection": [self.context_projection],
            "time_embedding": [self.time_embedding],
            "output_modulation": [self.output_modulation],
        }
        return {
            name: sum(parameter.numel() for module in modules for parameter in module.parameters())
            for name, modules in parts.items()
        }

    def condition(self, context: Context) -> Conditioned:
        """Compute once what depends on the context alone; `forward` takes the result in place of the context.

        Args:
            context: Output of a backbone.

        Returns:
            In mode "cached" the keys and values of every block; in mode "joint" the projected context.

        Raises:
            ShapeError: If the context does not have `context_width` features, or its parts differ in their tokens.
            DtypeError: If its states are not floating point, or its mask is not bool.
            EmbodimentError: If a head with a projection meets a robot that it does not know, or none.
        """
        check_context(context, self.context_width)
        address = self._address(context)
        hidden, mask = context.hidden, context.mask
        dtype = self.context_projection.weight.dtype
        tokens = self.context_projection(torch.where(mask[..., None], hidden, 0).to(dtype))
        position_ids = torch.where(mask, context.position_ids, 0)
        following = next_position(position_ids, mask)
        angles = rotary_angles(position_ids, sections=self.sections, theta=self.rope_theta)
        if self.attention == "joint":
            return Conditioned(mask=mask, next_position=following, tokens=tokens, angles=angles, address=address)
        keep = _or_all(mask)[:, None, None]
        clean = self._embed_time(torch.zeros(1, device=hidden.device))
        keys, values = [], []
        for number, block in enumerate(self._blocks(), start=1):
            modulation = block.modulate(clean)
            query, key, value = block.project(tokens, modulation, angles)
            keys.append(key)
            values.append(value)
            if number < len(self.blocks):  # nobody reads the context after the last block
                tokens = block.update(tokens, attend(query, key, value, keep), modulation)
        return Conditioned(mask=mask, next_position=following, keys=tuple(keys), values=tuple(values), address=address)

    def forward(
        self,
        noisy_actions: Float[Tensor, "batch_draw horizon channel"],
        time: Float[Tensor, " batch_draw"] | Float[Tensor, "batch_draw horizon"],
        context: Context | Conditioned,
        mask: Bool[Tensor, "batch_draw horizon channel"],
    ) -> Float[Tensor, "batch_draw horizon channel"]:
        """Predict the velocity `noise - action`.

        Args:
            noisy_actions: Points of the path; padding may hold anything.
            time: Flow time of each chunk or of each of its steps, 0 = action, 1 = noise.
            context: What the backbone knows, or the result of `condition` on it. The first axis of `noisy_actions` is a
                whole multiple of its batch, sample-major.
            mask: True where an action entry is real. A step is real when one of its channels is.

        Returns:
            Velocity, dtype of `noisy_actions`; exactly 0 where `mask` is False.

        Raises:
            ShapeError: If channels, mask, time or batch do not fit.
        """
        self._check(noisy_actions, time, context, mask)
        conditioned = context if isinstance(context, Conditioned) else self.condition(context)
        draws = noisy_actions.shape[0] // conditioned.mask.shape[0]
        steps = mask.any(-1)
        embedded_time = self._embed_time(time)
        actions = torch.where(mask, noisy_actions, 0).to(embedded_time.dtype)
        project, answer = self._action_networks(conditioned)
        tokens = project(actions)
        angles = self._action_angles(conditioned.next_position, noisy_actions.shape[1], draws)
        if conditioned.tokens is None:
            tokens = self._cached(tokens, embedded_time, angles, conditioned, steps, draws)
        else:
            everywhere = (
                embedded_time if time.ndim == 1 else self._with_context(embedded_time, time, steps, conditioned)
            )
            tokens = self._joint(tokens, everywhere, angles, conditioned, steps, draws)
        shift, scale = over_tokens(self.output_modulation(nn.functional.silu(embedded_time))).chunk(2, dim=-1)
        velocity = answer(normalise(tokens, shift, scale + 1))
        return torch.where(mask, velocity.to(noisy_actions.dtype), 0)

    def _with_context(
        self,
        embedded_time: Float[Tensor, "batch_draw horizon width"],
        time: Float[Tensor, "batch_draw horizon"],
        steps: Bool[Tensor, "batch_draw horizon"],
        conditioned: Conditioned,
    ) -> Float[Tensor, "batch_draw all_tokens width"]:
        """Time embedding of every token where steps have times of their own: the context has the latest of them."""
        latest = self._embed_time(torch.where(steps, time, 0).amax(1))
        return torch.cat([latest[:, None].expand(-1, conditioned.mask.shape[1], -1), embedded_time], 1)

    def _joint(
        self,
        actions: Float[Tensor, "batch_draw horizon width"],
        time: Float[Tensor, "batch_draw *step width"],
        angles: tuple[Tensor, Tensor],
        conditioned: Conditioned,
        steps: Bool[Tensor, "batch_draw horizon"],
        draws: int,
    ) -> Float[Tensor, "batch_draw horizon width"]:
        assert conditioned.tokens is not None  # noqa: S101 (narrows the type)
        assert conditioned.angles is not None  # noqa: S101 (narrows the type)
        tokens = torch.cat([_repeat(conditioned.tokens, draws), actions], 1)
        cosine, sine = (
            torch.cat([_repeat(of_context, draws), of_actions], 1)
            for of_context, of_actions in zip(conditioned.angles, angles, strict=True)
        )
        keep = _or_all(torch.cat([_repeat(conditioned.mask, draws), steps], 1))[:, None, None]
        *earlier, last = self._blocks()
        for block in earlier:
            tokens = block(tokens, time=time, angles=(cosine, sine), mask=keep)
        # Nobody reads the context after the last block: only actions ask there.
        modulation = last.modulate(time)
        query, key, value = last.project(tokens, modulation, (cosine, sine))
        first = conditioned.mask.shape[1]
        if time.ndim == 3:
            modulation = Modulation(*(part[:, first:] for part in modulation))
        return last.update(tokens[:, first:], attend(query[:, first:], key, value, keep), modulation)

    def _cached(
        self,
        tokens: Float[Tensor, "batch_draw horizon width"],
        time: Float[Tensor, "batch_draw *step width"],
        angles: tuple[Tensor, Tensor],
        conditioned: Conditioned,
        steps: Bool[Tensor, "batch_draw horizon"],
        draws: int,
    ) -> Float[Tensor, "batch_draw horizon width"]:
        # The draws of a sample can lie side by side in one sequence, kept apart by the mask. That reads the context's
        # keys and values in place, but computes scores between draws that nobody uses. Measured on a CPU, it halves
        # the time of attention for short chunks behind long contexts; for long chunks a copy per draw is cheaper.
        useful_keys, all_steps = conditioned.mask.shape[1] + tokens.shape[1], draws * tokens.shape[1]
        side_by_side = draws if 2 * all_steps <= 3 * useful_keys else 1
        copies = draws // side_by_side
        mask = _draw_mask(
            _repeat(conditioned.mask, copies),
            rearrange(steps, "(batch draw) horizon -> batch draw horizon", draw=side_by_side),
        )
        for block, context_key, context_value in zip(self._blocks(), conditioned.keys, conditioned.values, strict=True):
            modulation = block.modulate(time)
            query, key, value = (
                rearrange(part, "(batch draw) step head width -> batch (draw step) head width", draw=side_by_side)
                for part in block.project(tokens, modulation, angles)
            )
            key = torch.cat([_repeat(context_key, copies), key], 1)
            value = torch.cat([_repeat(context_value, copies), value], 1)
            attended = rearrange(
                attend(query, key, value, mask),
                "batch (draw step) head width -> (batch draw) step head width",
                draw=side_by_side,
            )
            tokens = block.update(tokens, attended, modulation)
        return tokens

    def _address(self, context: Context) -> Int[Tensor, "batch ..."] | None:
        if self.projection is None:
            return None
        if len(context.embodiments) != context.mask.shape[0]:
            raise EmbodimentError(
                f"context.embodiments must name the robot of each of the {context.mask.shape[0]} samples, got "
                f"{len(context.embodiments)} names. This head has parts for single robots: add the names to the "
                "context with dataclasses.replace."
            )
        address: Tensor = self.projection.address(context.embodiments, device=context.hidden.device)
        return address

    def _action_networks(
        self, conditioned: Conditioned
    ) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """Actions to tokens and tokens to velocities, for the robots of a context."""
        if self.projection is None:
            return self.action_in, self.action_out
        if conditioned.address is None:
            raise SettingError(
                "context must come from condition() of a head with this projection, got another head's. "
                "Call condition() of this head."
            )
        encode, decode = self.projection.encode, self.projection.decode
        return partial(encode, address=conditioned.address), partial(decode, address=conditioned.address)

    def _blocks(self) -> list[DiTBlock]:
        return cast(list[DiTBlock], list(self.blocks))  # ModuleList forgets the class of its elements

    def _embed_time(self, time: Float[Tensor, " batch *step"]) -> Float[Tensor, "batch *step width"]:
        embedded: Tensor = self.time_embedding(time_features(time).to(self.context_projection.weight.dtype))
        return embedded

    def _action_angles(self, next_position: Int[Tensor, " batch"], horizon: int, draws: int) -> tuple[Tensor, Tensor]:
        positions = next_position[:, None] + torch.arange(horizon, device=next_position.device)
        positions = positions.repeat_interleave(draws, 0)
        return rotary_angles(positions.expand(3, -1, -1), sections=self.sections, theta=self.rope_theta)

    def _check(self, noisy_actions: Tensor, time: Tensor, context: Context | Conditioned, mask: Tensor) -> None:
        if noisy_actions.ndim != 3 or noisy_actions.shape[-1] != self.channels:
            raise ShapeError(
                f"noisy_actions must have the shape (batch, horizon, {self.channels}), got "
                f"{tuple(noisy_actions.shape)}. Pad actions to the head's channels."
            )
        if mask.shape != noisy_actions.shape:
            raise ShapeError(
                f"mask must have the shape of noisy_actions {tuple(noisy_actions.shape)}, got {tuple(mask.shape)}. "
                "Build both with MaskedActions.pad."
            )
        if time.shape not in (noisy_actions.shape[:1], noisy_actions.shape[:2]):
            raise ShapeError(
                f"time must have the shape {tuple(noisy_actions.shape[:1])}, got {tuple(time.shape)}. "
                "Give one time per chunk, or one per step."
            )
        contexts = context.mask.shape[0]
        if contexts == 0 or noisy_actions.shape[0] % contexts:
            raise ShapeError(
                f"noisy_actions must hold a whole multiple of the {contexts} contexts, got {noisy_actions.shape[0]} "
                "chunks. Repeat each sample equally often."
            )
        if isinstance(context, Conditioned) and (context.tokens is None) != (self.attention == "cached"):
            raise SettingError(
                f"context must come from condition() of a head with attention {self.attention!r}, got the other mode. "
                "Call condition() of this head."
            )


def _checked(projection: nn.Module) -> nn.Module:
    if not isinstance(projection, ActionProjection):
        raise SettingError(
            f"projection must make an ActionProjection, got {type(projection).__name__}. "
            "Give a class such as PerEmbodimentProjection with its robots."
        )
    return projection


def _repeat(of_sample: Tensor, times: int) -> Tensor:
    """Each sample so often, one behind the other; the very tensor where once is enough."""
    return of_sample if times == 1 else of_sample.repeat_interleave(times, 0)


def _or_all(keep: Bool[Tensor, "*batch token"]) -> Bool[Tensor, "*batch token"]:
    """Let a row without a real token see all (zeroed) tokens, so that its softmax is no 0 / 0; nobody reads it."""
    return keep | ~keep.any(-1, keepdim=True)


def _draw_mask(
    context: Bool[Tensor, "batch token"], steps: Bool[Tensor, "batch draw horizon"]
) -> Bool[Tensor, "batch 1 draw_horizon all_tokens"]:
    """Which keys (context, then the steps of all draws) a step of a draw may see: all real ones, but no other draw."""
    draws, horizon = steps.shape[1:]
    keep = _or_all(torch.cat([context[:, None].expand(-1, draws, -1), steps], -1))  # [batch draw token+horizon]
    of_context, of_steps = keep.split([context.shape[1], horizon], dim=-1)
    same_draw = torch.eye(draws, dtype=torch.bool, device=steps.device)
    own_steps = rearrange(of_steps[:, :, None] & same_draw[:, :, None], "batch draw own step -> batch draw (own step)")
    return torch.cat([of_context, own_steps], -1).repeat_interleave(horizon, 1)[:, None]
