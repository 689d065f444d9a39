import pytest

from vla_kit.data.jobs import Executor, SerialExecutor


def fail(block):
    raise ValueError(f"broken {block}")


def test_results_come_in_order_and_only_when_asked_for():
    seen = []

    def work(block):
        seen.append(block)
        return -block

    results = SerialExecutor().map(work, [3, 1, 2])
    assert (next(results), seen) == (-3, [3])
    assert list(results) == [-1, -2]
    assert isinstance(SerialExecutor(), Executor)


def test_an_error_names_its_block():
    with pytest.raises(ValueError, match="broken") as caught:
        list(SerialExecutor().map(fail, [[0, 1]]))
    assert caught.value.__notes__ == ["in block 0 of 1: [0, 1]"]
