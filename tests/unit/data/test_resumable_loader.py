from itertools import islice

import pytest
import torch
from stream import collate, make_part, shown

from vla_kit.data.mixture import Mixture
from vla_kit.data.resumable_loader import ResumableLoader
from vla_kit.errors import CheckpointError, DataError, SettingError


def mixture(*, seed=0, weight=1.0):
    return Mixture([make_part("a", weight=weight), make_part("b", (50,))], seed=seed)


def loader(*, batch_size=4, num_batches=10, seed=0, **settings):
    return ResumableLoader(
        mixture(seed=seed), collate=collate, batch_size=batch_size, num_batches=num_batches, **settings
    )


@pytest.fixture(scope="module")
def uninterrupted():
    running = loader()
    return [shown(batch) for _ in range(3) for batch in running]


def test_epochs_go_on_in_the_order(uninterrupted):
    assert len(uninterrupted) == 30
    assert [shown(batch) for batch in loader(num_batches=30)] == uninterrupted


def test_batches_do_not_depend_on_the_workers(uninterrupted):
    running = loader(num_workers=2)
    assert [shown(batch) for _ in range(2) for batch in running] == uninterrupted[:20]
    running.close()


@pytest.mark.parametrize("used", [0, 1, 7, 10, 13])
@pytest.mark.parametrize(("before", "after"), [(0, 2), (2, 0)])
def test_goes_on_where_it_stood_with_other_workers(used, before, after, uninterrupted):
    first = loader(num_workers=before)
    epochs = (batch for _ in range(2) for batch in first)
    assert [shown(batch) for batch in islice(epochs, used)] == uninterrupted[:used]
    state = first.state_dict()
    assert state["samples"] == 4 * used  # what workers loaded ahead does not count
    second = loader(num_workers=after)
    second.load_state_dict(state)
    rest = [shown(batch) for batch in second]
    assert len(rest) == 10 - used % 10  # the rest of the epoch
    assert rest == uninterrupted[used : used + len(rest)]
    assert [shown(batch) for batch in second] == uninterrupted[used + len(rest) :][:10]
    for one in (first, second):
        one.close()


def test_an_epoch_that_somebody_ends_early_goes_on_in_the_next(uninterrupted):
    for workers in (0, 2):
        running = loader(num_workers=workers)
        assert [shown(batch) for batch in islice(running, 3)] == uninterrupted[:3]
        assert [shown(batch) for batch in islice(running, 3)] == uninterrupted[3:6]
        running.close()


def test_asking_twice_for_an_iterator_skips_nothing(uninterrupted):
    """Lightning makes one before it restores a checkpoint, and another to train."""
    running = loader()
    running.load_state_dict(loader().state_dict() | {"samples": 12, "epoch_samples": 12})
    iter(running)
    assert [shown(batch) for batch in running] == uninterrupted[3:10]


def test_ranks_share_no_sample_and_cover_the_order():
    alone = [shown(batch)[0] for batch in loader(batch_size=8, num_batches=5)]
    ranks = [
        [shown(batch)[0] for batch in loader(batch_size=4, num_batches=5, rank=rank, world_size=2)] for rank in (0, 1)
    ]
    assert [first + second for first, second in zip(*ranks, strict=True)] == alone


def test_ranks_draw_apart():
    draws = [next(iter(loader(rank=rank, world_size=2))).backbone_inputs["draw"] for rank in (0, 1)]
    assert not torch.equal(*draws)


@pytest.mark.parametrize(
    ("world_size", "batch_size", "batches"), [(1, 8, 5), (4, 2, 5), (2, 2, 10), (1, 10, 4), (5, 4, 2)]
)
def test_another_world_goes_on_at_the_same_sample(world_size, batch_size, batches):
    """Two ranks of four took five steps: forty samples."""
    order = [row for batch in loader(batch_size=1, num_batches=400) for row in shown(batch)[0]]
    before = loader(batch_size=4, num_batches=50, rank=1, world_size=2)
    for _ in islice(before, 5):
        pass
    seen = []
    for rank in range(world_size):
        after = loader(batch_size=batch_size, num_batches=50, rank=rank, world_size=world_size)
        after.load_state_dict(before.state_dict())
        seen.append([shown(batch)[0] for batch in islice(after, 3)])
    steps = [[row for rank in step for row in rank] for step in zip(*seen, strict=True)]
    together = world_size * batch_size
    assert batches * together == 40
    assert [row for step in steps for row in step] == order[40 : 40 + 3 * together]


def test_a_world_that_does_not_divide_is_refused():
    before = loader()
    for _ in islice(before, 3):
        pass
    with pytest.raises(
        CheckpointError, match=r"must divide the samples used so far \(12\), got 4 \* 2 = 8\. Choose a batch_size"
    ):
        loader(world_size=2).load_state_dict(before.state_dict())


def test_another_mixture_is_refused_by_name():
    state = loader().state_dict()
    with pytest.raises(CheckpointError, match="2 with other data, length, share or seed: a, b"):
        loader(seed=1).load_state_dict(state)
    state["parts"] = {"a": state["parts"]["a"], "old": "0"}
    with pytest.raises(CheckpointError, match=r"1 new: b; 1 missing: old.*--warm_start"):
        loader().load_state_dict(state)


def test_loading_leaves_the_draws_of_training_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    for workers in (0, 1):
        torch.manual_seed(0)
        running = loader(num_workers=workers)
        next(iter(running))
        assert torch.equal(torch.rand(3), expected)
        running.close()


def test_threads_of_training_change_no_batch_and_stay():
    """A sum over one picture rounds differently on two threads."""

    def summing(samples):
        batch = collate(samples)
        picture = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
        batch.backbone_inputs["draw"] += picture.mean(dim=(1, 2, 3))
        return batch

    threads, seen = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            running = ResumableLoader(mixture(), collate=summing, batch_size=2, num_batches=1)
            seen.append([shown(batch) for batch in running])
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert seen[1:] == seen[:1] * 2


def test_a_broken_sample_stops_with_its_error():
    broken = ResumableLoader(Mixture([make_part("a", length=9)]), collate=collate, batch_size=2, num_batches=2)
    with pytest.raises(DataError, match="memory:a must not change"):
        next(iter(broken))


@pytest.mark.parametrize("name", ["batch_size", "num_batches", "world_size"])
def test_refuses_counts_below_1(name):
    with pytest.raises(SettingError, match=f"{name} must be at least 1, got 0"):
        loader(**{name: 0})


def test_refuses_a_rank_outside():
    with pytest.raises(SettingError, match=r"rank must lie in \[0, 2\), got 2"):
        loader(rank=2, world_size=2)
