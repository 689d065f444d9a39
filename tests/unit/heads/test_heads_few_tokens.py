"""The other order of the product answers as the layer does, and steps aside where it must."""

import pytest
import torch
from torch import nn

from vla_kit.heads.few_tokens import apply_linear


@pytest.fixture
def taken(monkeypatch):
    """Calls of `nn.Linear.forward`: none where the other order was taken."""
    calls = []
    forward = nn.Linear.forward

    def counted(layer, tokens):
        calls.append(tokens.shape)
        return forward(layer, tokens)

    monkeypatch.setattr(nn.Linear, "forward", counted)
    return calls


def large(bias=False, dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Linear(1024, 1024 + 512, bias=bias, dtype=dtype)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, 8), (1, 16), (8, 16), (3, 7)])
def test_answers_as_the_layer(shape, bias, taken):
    layer, tokens = large(bias), torch.randn(*shape, 1024)
    with torch.inference_mode():
        found = apply_linear(layer, tokens)
        assert not taken
        torch.testing.assert_close(found, layer(tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 7), (1, 129), (2, 512)])
def test_few_and_many_tokens_go_through_the_layer(shape, taken):
    with torch.inference_mode():
        apply_linear(large(), torch.randn(*shape, 1024))
    assert taken == [(*shape, 1024)]


def test_gradients_go_through_the_layer(taken):
    layer, tokens = large(), torch.randn(1, 16, 1024)
    apply_linear(layer, tokens).sum().backward()
    assert len(taken) == 1
    torch.testing.assert_close(layer.weight.grad[0], tokens.sum((0, 1)))


def test_adapters_and_hooks_are_asked(taken):
    class Adapted(nn.Linear):
        def forward(self, tokens):
            return super().forward(tokens) + 1

    layer, adapted, tokens = large(), Adapted(1024, 1536), torch.randn(1, 16, 1024)
    layer.register_forward_hook(lambda module, args, output: output * 0)
    with torch.inference_mode():
        assert apply_linear(layer, tokens).eq(0).all()
        torch.testing.assert_close(
            apply_linear(adapted, tokens), nn.functional.linear(tokens, adapted.weight, adapted.bias) + 1
        )
    assert len(taken) == 2


def test_small_matrices_other_types_and_autocast_go_through_the_layer(taken):
    tokens = torch.randn(1, 16, 1024)
    with torch.inference_mode():
        apply_linear(nn.Linear(1024, 64), tokens)
        apply_linear(large(dtype=torch.bfloat16), tokens.bfloat16())
        with torch.autocast("cpu", torch.bfloat16):
            assert apply_linear(large(), tokens).dtype == torch.bfloat16
    assert len(taken) == 3


def test_compiled_code_goes_through_the_layer(taken):
    layer, tokens = large(), torch.randn(1, 16, 1024)
    with torch.inference_mode():
        torch.compile(lambda seen: apply_linear(layer, seen), backend="eager")(tokens)
    assert len(taken) == 1
