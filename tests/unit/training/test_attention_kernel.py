from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from vla_kit.errors import SettingError
from vla_kit.training.attention_kernel import AttentionKernel


def used_kernel() -> str:
    from torch.profiler import profile

    query = torch.randn(1, 1, 4, 8)
    with profile() as recorded:
        scaled_dot_product_attention(query, query, query)
    names = [event.key for event in recorded.key_averages()]
    return "math" if any("attention_math" in name for name in names) else "fused"


def test_math_holds_from_setup_to_teardown():
    before = used_kernel()
    callback = AttentionKernel("math")
    callback.setup(SimpleNamespace(callbacks=[callback]), None, "fit")
    assert used_kernel() == "math"
    callback.teardown(None, None, "fit")
    assert used_kernel() == before


def test_a_failing_run_ends_the_restriction_and_teardown_after_it_changes_nothing():
    before = used_kernel()
    callback = AttentionKernel("math")
    callback.setup(SimpleNamespace(callbacks=[callback]), None, "fit")
    callback.on_exception(None, None, RuntimeError())
    callback.teardown(None, None, "fit")
    assert used_kernel() == before == "fused"


def test_the_last_of_several_counts_and_nothing_stays_behind():
    before = used_kernel()
    trainer = SimpleNamespace(callbacks=[AttentionKernel("flash"), AttentionKernel("math")])
    for callback in trainer.callbacks:
        callback.setup(trainer, None, "fit")
    assert used_kernel() == "math"
    for callback in trainer.callbacks:
        callback.teardown(trainer, None, "fit")
    assert used_kernel() == before


def test_refuses_an_unknown_kernel():
    with pytest.raises(SettingError, match=r"kernel must be one of .*'math'.*, got 'fast'"):
        AttentionKernel("fast")
