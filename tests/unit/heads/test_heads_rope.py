import pytest
import torch

from vla_kit.errors import SettingError
from vla_kit.heads.rope import default_sections, rotary_angles, rotate, validate_sections


def positions(*, tokens: int = 9) -> torch.Tensor:
    return torch.randint(0, 50, (3, 2, tokens), generator=torch.Generator().manual_seed(0))


def test_angles_by_hand():
    # Two pairs: pair 0 follows time at frequency 1, pair 1 follows height at 100 ** (-1 / 2) = 0.1.
    position_ids = torch.tensor([3, 20, 7]).view(3, 1, 1)
    cosine, sine = rotary_angles(position_ids, sections=(1, 1, 0), theta=100.0)
    torch.testing.assert_close(cosine.flatten(), torch.tensor([3.0, 2.0]).cos())
    torch.testing.assert_close(sine.flatten(), torch.tensor([3.0, 2.0]).sin())


def test_axes_take_turns():
    axis = torch.eye(3, dtype=torch.long).mul(100).view(3, 3, 1)  # sample i moves along axis i alone
    cosine, _ = rotary_angles(axis, sections=(4, 2, 1), theta=2.0)
    moved = (cosine.squeeze() < 1).int()  # [axis pair]
    assert moved.argmax(0).tolist() == [0, 1, 2, 0, 1, 0, 0]
    assert moved.sum() == 7


@pytest.mark.parametrize(("head_width", "sections"), [(64, (11, 11, 10)), (128, (24, 20, 20)), (256, (11, 11, 10))])
def test_agrees_with_qwen3_vl(head_width, sections):
    qwen = pytest.importorskip("transformers.models.qwen3_vl.modeling_qwen3_vl")
    configuration = pytest.importorskip("transformers").Qwen3VLTextConfig(
        head_dim=2 * sum(sections),
        rope_parameters={"rope_type": "default", "rope_theta": 1e7, "mrope_section": list(sections)},
    )
    position_ids = positions()
    vectors = torch.randn(2, 9, 3, head_width, generator=torch.Generator().manual_seed(1))
    turned, rest = vectors.split([2 * sum(sections), head_width - 2 * sum(sections)], dim=-1)
    cosine, sine = qwen.Qwen3VLTextRotaryEmbedding(configuration)(turned, position_ids)
    expected, _ = qwen.apply_rotary_pos_emb(turned, turned, cosine, sine, unsqueeze_dim=2)
    found = rotate(vectors, rotary_angles(position_ids, sections=sections, theta=1e7))
    torch.testing.assert_close(found, torch.cat([expected, rest], -1), atol=2e-5, rtol=1e-5)


def test_scores_depend_on_distances_alone():
    query, key = torch.randn(2, 1, 9, 1, 12, generator=torch.Generator().manual_seed(1))
    scores = []
    for offset in (0, 5):
        angles = rotary_angles(positions()[:, :1] + offset, sections=(2, 2, 1), theta=1e4)
        scores.append(torch.einsum("bqhd,bkhd->bqk", rotate(query, angles), rotate(key, angles)))
    torch.testing.assert_close(scores[0], scores[1], atol=1e-5, rtol=1e-5)


def test_precision_of_vectors_is_kept():
    angles = rotary_angles(positions(), sections=(1, 1, 0), theta=1e4)
    assert rotate(torch.zeros(2, 9, 1, 6, dtype=torch.bfloat16), angles).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("head_width", "sections"), [(2, (1, 0, 0)), (4, (1, 1, 0)), (8, (2, 1, 1)), (64, (11, 11, 10)), (96, (16, 16, 16))]
)
def test_default_sections_are_valid_and_rotate_the_whole_head(head_width, sections):
    assert default_sections(head_width) == sections
    assert validate_sections(sections, head_width=head_width) == sections


@pytest.mark.parametrize(
    ("sections", "text"),
    [
        ([11, 11], r"sections must be three counts for time, height and width, got \[11, 11\]"),
        ([2, -1, 1], r"sections must be three counts .* got \[2, -1, 1\]"),
        ([11, 11, 11], "sections must fit into head_width 64: twice their sum, got 66"),
        ([1, 3, 0], r"sections must be interleavable .* got \[1, 3, 0\]. Try \[2, 1, 1\]"),
        ([1, 0, 1], r"sections must be interleavable .* got \[1, 0, 1\]"),
    ],
)
def test_impossible_sections_raise(sections, text):
    with pytest.raises(SettingError, match=text):
        validate_sections(sections, head_width=64)


@pytest.mark.parametrize("head_width", [0, 7])
def test_odd_heads_raise(head_width):
    with pytest.raises(SettingError, match=f"head_width must be even and at least 2, got {head_width}"):
        default_sections(head_width)
