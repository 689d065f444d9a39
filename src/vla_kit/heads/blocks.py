"""One transformer block with time conditioning: AdaLN-zero, self-attention, SwiGLU."""

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from vla_kit.errors import SettingError
from vla_kit.heads.few_tokens import apply_linear
from vla_kit.heads.rope import rotate

__all__ = ["DiTBlock", "Modulation", "attend", "normalise", "over_tokens"]


class Modulation(NamedTuple):
    """What time does to the tokens of one block: six vectors per sample, broadcast over its tokens, or per token.

    `*_scale` multiplies normalised tokens (it includes the 1), `*_shift` is added, `*_gate` multiplies the branch.
    """

    attention_shift: Float[Tensor, "batch token_or_1 width"]
    attention_scale: Float[Tensor, "batch token_or_1 width"]
    attention_gate: Float[Tensor, "batch token_or_1 width"]
    mlp_shift: Float[Tensor, "batch token_or_1 width"]
    mlp_scale: Float[Tensor, "batch token_or_1 width"]
    mlp_gate: Float[Tensor, "batch token_or_1 width"]


class DiTBlock(nn.Module):
    """Self-attention and SwiGLU, both shifted, scaled and gated by time.

    Gates start at zero, so a new block passes its tokens unchanged. Linear layers of attention and SwiGLU carry no
    bias; LayerNorm carries no parameters. `forward` is plain self-attention; its three parts are public so that a head
    may keep keys and values from one call to the next.

    Args:
        width: Features of a token.
        num_heads: Attention heads; `width / num_heads` must be even.
        mlp_hidden: Hidden features of SwiGLU.

    Raises:
        SettingError: If a size is below 1 or `width` is no multiple of `num_heads`.

    Examples:
        >>> import torch
        >>> from vla_kit.heads.rope import rotary_angles
        >>> block = DiTBlock(width=8, num_heads=2, mlp_hidden=16)
        >>> angles = rotary_angles(torch.arange(3).expand(3, 1, 3), sections=(1, 1, 0), theta=1e4)
        >>> tokens = torch.randn(1, 3, 8)
        >>> keep = torch.ones(1, 1, 1, 3, dtype=torch.bool)
        >>> torch.equal(block(tokens, time=torch.randn(1, 8), angles=angles, mask=keep), tokens)  # gates are closed
        True

    Source:
        Qwen-VLA, arXiv 2605.30280, section 2.2 and its parameter table: 70.8 M = 30 width^2, met by AdaLN-zero of
        DiT (arXiv 2212.09748, 6 width^2), attention (4 width^2) and SwiGLU with hidden 10,240 (20 width^2). The paper
        does not give the split; other splits give the same sum.
    """

    def __init__(self, *, width: int, num_heads: int, mlp_hidden: int) -> None:
        super().__init__()
        for name, value in (("width", width), ("num_heads", num_heads), ("mlp_hidden", mlp_hidden)):
            if value < 1:
                raise SettingError(f"{name} must be at least 1, got {value}. The paper's size is 1536, 24 and 10240.")
        if width % num_heads:
            raise SettingError(f"width must be a multiple of num_heads {num_heads}, got {width}. Change one of them.")
        self.num_heads = num_heads
        self.modulation = nn.Linear(width, 6 * width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.mlp_in = nn.Linear(width, 2 * mlp_hidden, bias=False)
        self.mlp_out = nn.Linear(mlp_hidden, width, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew; gates, shifts and scales start at zero."""
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        for layer in (self.query_key_value, self.attention_out, self.mlp_in, self.mlp_out):
            nn.init.xavier_uniform_(layer.weight)

    def forward(
        self,
        tokens: Float[Tensor, "batch token width"],
        *,
        time: Float[Tensor, "batch_or_1 *step width"],
        angles: tuple[Tensor, Tensor],
        mask: Bool[Tensor, "batch 1 query token"],
    ) -> Float[Tensor, "batch token width"]:
        """Self-attention block.

        Args:
            tokens: Input tokens.
            time: Time embedding, one row per sample, one for all, or one per sample and token.
            angles: Rotary cosine and sine from `rotary_angles`.
            mask: True where a query (or, with one row, every query) may look at a token. Each query needs one True.

        Returns:
            Output tokens.
        """
        modulation = self.modulate(time)
        query, key, value = self.project(tokens, modulation, angles)
        return self.update(tokens, attend(query, key, value, mask), modulation)

    def modulate(self, time: Float[Tensor, "batch *step width"]) -> Modulation:
        """Shifts, scales and gates for a time embedding, one per sample or one per sample and token."""
        parts = over_tokens(self.modulation(functional.silu(time))).chunk(6, dim=-1)
        return Modulation(parts[0], parts[1] + 1, parts[2], parts[3], parts[4] + 1, parts[5])

    def project(
        self,
        tokens: Float[Tensor, "batch token width"],
        modulation: Modulation,
        angles: tuple[Tensor, Tensor],
    ) -> tuple[
        Float[Tensor, "batch token head head_width"],
        Float[Tensor, "batch token head head_width"],
        Float[Tensor, "batch token head head_width"],
    ]:
        """Queries and keys, turned by their positions, and values."""
        shifted = normalise(tokens, modulation.attention_shift, modulation.attention_scale)
        fused = rearrange(
            apply_linear(self.query_key_value, shifted),
            "batch token (head width) -> batch token head width",
            head=3 * self.num_heads,
        )
        turned, value = fused.split([2 * self.num_heads, self.num_heads], dim=2)
        query, key = rotate(turned, angles).chunk(2, dim=2)
        return query, key, value

    def update(
        self,
        tokens: Float[Tensor, "batch token width"],
        attended: Float[Tensor, "batch token head head_width"],
        modulation: Modulation,
    ) -> Float[Tensor, "batch token width"]:
        """Add the attention branch, then the SwiGLU branch."""
        branch = apply_linear(
            self.attention_out, rearrange(attended, "batch token head width -> batch token (head width)")
        )
        tokens = torch.addcmul(tokens, modulation.attention_gate, branch)
        shifted = normalise(tokens, modulation.mlp_shift, modulation.mlp_scale)
        gate, up = apply_linear(self.mlp_in, shifted).chunk(2, dim=-1)
        branch = apply_linear(self.mlp_out, functional.silu(gate) * up)
        return torch.addcmul(tokens, modulation.mlp_gate, branch)


def over_tokens(features: Float[Tensor, "batch *step width"]) -> Float[Tensor, "batch token_or_1 width"]:
    """Give features of a sample an axis that broadcasts over its tokens; features per token have it already.

    Examples:
        >>> import torch
        >>> over_tokens(torch.zeros(2, 8)).shape, over_tokens(torch.zeros(2, 5, 8)).shape
        (torch.Size([2, 1, 8]), torch.Size([2, 5, 8]))
    """
    return features[:, None] if features.ndim == 2 else features


def normalise(
    tokens: Float[Tensor, "batch token width"],
    shift: Float[Tensor, "batch_or_1 token_or_1 width"],
    scale: Float[Tensor, "batch_or_1 token_or_1 width"],
) -> Float[Tensor, "batch token width"]:
    """LayerNorm without parameters, then `* scale + shift`.

    Examples:
        >>> import torch
        >>> normalise(torch.tensor([[[1.0, 3.0]]]), torch.zeros(1, 1, 2), torch.full((1, 1, 2), 2.0)).round(decimals=3)
        tensor([[[-2.,  2.]]])
    """
    return torch.addcmul(shift, functional.layer_norm(tokens, tokens.shape[-1:], eps=1e-6), scale)


def attend(
    query: Float[Tensor, "batch query head head_width"],
    key: Float[Tensor, "batch token head head_width"],
    value: Float[Tensor, "batch token head head_width"],
    mask: Bool[Tensor, "batch 1 query_or_1 token"],
) -> Float[Tensor, "batch query head head_width"]:
    """Masked attention with the token axis before the heads.

    Args:
        query: Queries.
        key: Keys.
        value: Values.
        mask: True where a query may look. Each query needs at least one True.

    Returns:
        Weighted values per query.

    Examples:
        >>> import torch
        >>> value = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1)
        >>> attend(torch.zeros(1, 1, 1, 1), value, value, torch.ones(1, 1, 1, 2, dtype=torch.bool)).item()
        2.0
    """
    query, key, value = (
        rearrange(part, "batch token head width -> batch head token width") for part in (query, key, value)
    )
    out = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return rearrange(out, "batch head token width -> batch token head width")
