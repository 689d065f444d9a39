import math

import pytest
import torch
from torch.nn import functional

from vla_kit.errors import SettingError
from vla_kit.heads.blocks import DiTBlock, attend, normalise
from vla_kit.heads.rope import rotary_angles, rotate


def open_block(*, width: int = 8, num_heads: int = 2) -> DiTBlock:
    torch.manual_seed(0)
    block = DiTBlock(width=width, num_heads=num_heads, mlp_hidden=12)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return block


def test_attend_by_hand():
    query = torch.tensor([1.0]).view(1, 1, 1, 1)
    key = torch.tensor([0.0, math.log(3.0), 9.0]).view(1, 3, 1, 1)
    value = torch.tensor([4.0, 8.0, 1e6]).view(1, 3, 1, 1)
    mask = torch.tensor([True, True, False]).view(1, 1, 1, 3)
    assert attend(query, key, value, mask).item() == pytest.approx((4 * 1 + 8 * 3) / 4)  # weights 1/4, 3/4, 0


def test_block_written_out():
    """The same block, one formula after the other, one head at a time."""
    block, tokens, time = open_block(), torch.randn(2, 5, 8), torch.randn(2, 8)
    angles = rotary_angles(torch.arange(5).expand(3, 2, 5), sections=(1, 1, 0), theta=100.0)
    keep = torch.rand(2, 1, 5, 5) < 0.7
    keep |= torch.eye(5, dtype=torch.bool)
    shift, scale, gate, shift_2, scale_2, gate_2 = (
        part[:, None] for part in block.modulation(time * torch.sigmoid(time)).split(8, dim=-1)
    )
    centred = tokens - tokens.mean(-1, keepdim=True)
    shifted = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() * (1 + scale) + shift
    query, key, value = (
        (shifted @ weight.T).view(2, 5, 2, 4) for weight in block.query_key_value.weight.split(8, dim=0)
    )
    query, key = rotate(query, angles), rotate(key, angles)
    heads = []
    for head in range(2):
        scores = query[:, :, head] @ key[:, :, head].transpose(1, 2) / 2  # sqrt(4) = 2
        weights = scores.masked_fill(~keep[:, 0], -math.inf).softmax(-1)
        heads.append(weights @ value[:, :, head])
    expected = tokens + gate * (torch.cat(heads, -1) @ block.attention_out.weight.T)
    shifted = functional.layer_norm(expected, (8,), eps=1e-6) * (1 + scale_2) + shift_2
    gate_in, up = (shifted @ block.mlp_in.weight.T).split(12, dim=-1)
    expected = expected + gate_2 * ((gate_in * torch.sigmoid(gate_in) * up) @ block.mlp_out.weight.T)
    torch.testing.assert_close(block(tokens, time=time, angles=angles, mask=keep), expected, atol=1e-5, rtol=1e-5)


def test_normalise_has_mean_shift_and_deviation_scale():
    tokens = torch.randn(2, 3, 64)
    out = normalise(tokens, torch.full((2, 1, 64), 5.0), torch.full((2, 1, 64), 3.0))
    torch.testing.assert_close(out.mean(-1), torch.full((2, 3), 5.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std(-1, correction=0), torch.full((2, 3), 3.0), atol=1e-4, rtol=0)


def test_one_time_for_all_samples_equals_that_time_repeated():
    block, tokens, time = open_block(), torch.randn(3, 5, 8), torch.randn(1, 8)
    angles = rotary_angles(torch.arange(5).expand(3, 3, 5), sections=(1, 1, 0), theta=100.0)
    keep = torch.ones(3, 1, 1, 5, dtype=torch.bool)
    once = block(tokens, time=time, angles=angles, mask=keep)
    torch.testing.assert_close(once, block(tokens, time=time.expand(3, -1), angles=angles, mask=keep))


def test_size_is_thirty_squares_and_the_bias_of_time():
    with torch.device("meta"):
        block = DiTBlock(width=1536, num_heads=24, mlp_hidden=10240)
    assert sum(parameter.numel() for parameter in block.parameters()) == 30 * 1536**2 + 6 * 1536


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"num_heads": 0}, "num_heads must be at least 1, got 0"),
        ({"mlp_hidden": 0}, "mlp_hidden must be at least 1, got 0"),
        ({"num_heads": 3}, "width must be a multiple of num_heads 3, got 8"),
    ],
)
def test_impossible_sizes_raise(settings, text):
    with pytest.raises(SettingError, match=text):
        DiTBlock(**{"width": 8, "num_heads": 2, "mlp_hidden": 12, **settings})
