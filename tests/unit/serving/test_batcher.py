import asyncio
import time

import numpy as np
import pytest
from fake_policy import FakePolicy, picture

from vla_kit.errors import DataError, OverloadError, SettingError
from vla_kit.policy import PolicyObservation
from vla_kit.serving import Batcher


def look(value=0, *, words="push", embodiment="arm"):
    return PolicyObservation(embodiment=embodiment, instruction=words, views={"ego": picture(value)})


def run(policy, scenario, **settings):
    async def inside():
        async with Batcher(policy.act, **settings) as batcher:
            return await scenario(batcher)

    return asyncio.run(inside())


def test_every_client_gets_its_own_answer_from_one_batch():
    policy = FakePolicy()

    async def scenario(batcher):
        batcher.clients = 5
        return await asyncio.gather(*(batcher.ask(look(value)) for value in range(5)))

    answers = run(policy, scenario, max_wait_ms=10_000)
    assert [answer.actions[0, 0] for answer in answers] == [0, 1, 2, 3, 4]
    assert policy.batches == [5]
    assert {answer.batch_size for answer in answers} == {5}


def test_robots_with_different_actions_share_a_batch():
    async def scenario(batcher):
        batcher.clients = 2
        return await asyncio.gather(batcher.ask(look()), batcher.ask(look(embodiment="crane")))

    shapes = [answer.actions.shape for answer in run(FakePolicy(), scenario, max_wait_ms=10_000)]
    assert shapes == [(4, 2), (6, 3)]


def test_a_batch_is_never_larger_than_allowed():
    policy = FakePolicy()

    async def scenario(batcher):
        batcher.clients = 7
        return await asyncio.gather(*(batcher.ask(look(value)) for value in range(7)))

    run(policy, scenario, max_batch=3)
    assert policy.batches == [3, 3, 1]


def test_requests_gather_while_the_policy_is_busy():
    policy = FakePolicy()
    policy.gate.clear()

    async def scenario(batcher):
        batcher.clients = 4
        first = asyncio.create_task(batcher.ask(look(1)))
        while not policy.batches:  # the policy has taken it out of the queue
            await asyncio.sleep(0.001)
        others = [asyncio.create_task(batcher.ask(look(value))) for value in (2, 3, 4)]
        while batcher.waiting < 3:
            await asyncio.sleep(0.001)
        policy.gate.set()
        return await asyncio.gather(first, *others)

    assert [answer.batch_size for answer in run(policy, scenario)] == [1, 3, 3, 3]


def test_a_client_among_silent_ones_waits_for_nobody():
    async def scenario(batcher):
        batcher.clients = 8
        async with asyncio.timeout(30):
            return [await batcher.ask(look(value)) for value in range(3)]

    answers = run(FakePolicy(), scenario, max_wait_ms=600_000)
    assert [answer.batch_size for answer in answers] == [1, 1, 1]


def test_clients_that_were_answered_together_share_the_next_batch():
    async def scenario(batcher):
        batcher.clients = 3  # one of them never asks
        await asyncio.gather(batcher.ask(look()), batcher.ask(look()))
        early = asyncio.create_task(batcher.ask(look(1)))
        for _ in range(20):
            await asyncio.sleep(0)
        assert batcher.waiting == 1
        return await asyncio.gather(early, batcher.ask(look(2)))

    assert [answer.batch_size for answer in run(FakePolicy(), scenario, max_wait_ms=600_000)] == [2, 2]


def test_clients_out_of_step_find_each_other():
    policy = FakePolicy()
    policy.gate.clear()

    async def scenario(batcher):
        batcher.clients = 2
        first = asyncio.create_task(batcher.ask(look()))
        while not policy.batches:
            await asyncio.sleep(0.001)
        second = asyncio.create_task(batcher.ask(look()))  # waits while the policy is busy with the first
        while not batcher.waiting:
            await asyncio.sleep(0.001)
        policy.gate.set()
        await first
        return await asyncio.gather(batcher.ask(look()), second)

    assert [answer.batch_size for answer in run(policy, scenario, max_wait_ms=600_000)] == [2, 2]


@pytest.mark.parametrize(("max_wait_ms", "left"), [(20, 2), (600_000, 1)], ids=["late", "gone"])
def test_a_client_that_does_not_come_back_is_given_up(max_wait_ms, left):
    async def scenario(batcher):
        batcher.clients = 2
        await asyncio.gather(batcher.ask(look()), batcher.ask(look()))
        other = asyncio.create_task(batcher.ask(look()))
        for _ in range(20):
            await asyncio.sleep(0)
        batcher.clients = left
        async with asyncio.timeout(30):
            return await other

    assert run(FakePolicy(), scenario, max_wait_ms=max_wait_ms).batch_size == 1


def test_times_are_those_of_the_policy_and_the_queue():
    policy = FakePolicy(seconds=0.05)

    async def scenario(batcher):
        first = asyncio.create_task(batcher.ask(look()))
        await asyncio.sleep(0.01)
        return await first, await batcher.ask(look())

    first, second = run(policy, scenario)
    assert first.policy_ms >= 50
    assert second.policy_ms >= 50

    async def behind(batcher):
        first = asyncio.create_task(batcher.ask(look()))
        await asyncio.sleep(0.01)
        return await batcher.ask(look()), await first

    assert run(policy, behind)[0].queue_ms >= 30  # it waited for the rest of the first one's 50 ms


def test_a_full_queue_refuses_and_goes_on():
    policy = FakePolicy()
    policy.gate.clear()

    async def scenario(batcher):
        busy = asyncio.create_task(batcher.ask(look(1)))
        while not policy.batches:  # the policy has taken it out of the queue
            await asyncio.sleep(0.001)
        waiting = [asyncio.create_task(batcher.ask(look(value))) for value in (2, 3)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadError, match="queue must hold at most 2 requests, got 2 waiting"):
            await batcher.ask(look(4))
        assert batcher.waiting == 2
        policy.gate.set()
        return await asyncio.gather(busy, *waiting)

    assert [answer.actions[0, 0] for answer in run(policy, scenario, max_queue=2)] == [1, 2, 3]


def test_an_observation_on_which_the_policy_raises_costs_nobody_else_an_answer():
    policy = FakePolicy()

    async def scenario(batcher):
        batcher.clients = 3
        asked = (batcher.ask(look(value, words=words)) for value, words in ((1, "push"), (2, "burn"), (3, "push")))
        together = await asyncio.gather(*asked, return_exceptions=True)
        return together, await batcher.ask(look(9))

    (first, second, third), later = run(policy, scenario, max_wait_ms=10)
    assert (first.actions[0, 0], third.actions[0, 0], later.actions[0, 0]) == (1, 3, 9)
    assert isinstance(second, RuntimeError)
    assert str(second) == "the arm burns"


def test_no_robot_gets_nan():
    async def scenario(batcher):
        batcher.clients = 2
        asked = (batcher.ask(look(words=words)) for words in ("vanish", "push"))
        return await asyncio.gather(*asked, return_exceptions=True)

    bad, good = run(FakePolicy(), scenario, max_wait_ms=10_000)
    assert isinstance(bad, DataError)
    assert "actions must be finite, got NaN" in str(bad)
    assert np.isfinite(good.actions).all()


def test_a_policy_that_answers_too_few_is_found_out():
    async def scenario(batcher):
        return await batcher.ask(look())

    class Silent:
        def act(self, observations):
            return []

    with pytest.raises(DataError, match="act must answer each of 1 observations, got 0 chunks"):
        run(Silent(), scenario)


def test_a_request_that_nobody_waits_for_any_more_does_no_harm():
    policy = FakePolicy(seconds=0.02)

    async def scenario(batcher):
        gone = asyncio.create_task(batcher.ask(look(1)))
        await asyncio.sleep(0.01)
        gone.cancel()
        return await batcher.ask(look(2))

    assert run(policy, scenario).actions[0, 0] == 2


def test_what_waits_at_the_end_is_answered_and_nothing_more_is_taken():
    policy = FakePolicy(seconds=0.02)

    async def inside():
        async with Batcher(policy.act, max_batch=1) as batcher:
            asked = [asyncio.create_task(batcher.ask(look(value))) for value in range(3)]
            await asyncio.sleep(0)
        answers = [task.result().actions[0, 0] for task in asked]
        with pytest.raises(OverloadError, match="ask must come before the batcher stops"):
            await batcher.ask(look())
        return answers

    assert asyncio.run(inside()) == [0, 1, 2]


def test_warming_up_tries_each_robot_and_a_whole_batch():
    policy = FakePolicy()

    async def scenario(batcher):
        await batcher.warm_up([look(), look(embodiment="crane")])

    run(policy, scenario, max_batch=5)
    assert policy.batches == [1, 1, 5]


def test_the_loop_stays_free_while_the_policy_computes():
    policy = FakePolicy(seconds=0.3)

    async def scenario(batcher):
        asked = asyncio.create_task(batcher.ask(look()))
        start, steps = time.perf_counter(), 0
        while not asked.done():
            await asyncio.sleep(0.005)
            steps += 1
        return steps, time.perf_counter() - start

    steps, seconds = run(policy, scenario)
    assert seconds >= 0.3
    assert steps >= 10


def test_each_batch_is_reported():
    batches = []
    policy = FakePolicy()

    async def scenario(batcher):
        batcher.clients = 2
        await asyncio.gather(batcher.ask(look()), batcher.ask(look()))

    run(policy, scenario, max_wait_ms=10_000, on_batch=lambda size, seconds: batches.append((size, seconds >= 0)))
    assert batches == [(2, True)]


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ({"max_batch": 0}, "max_batch must be at least 1, got 0"),
        ({"max_queue": 0}, "max_queue must be at least 1, got 0"),
        ({"max_wait_ms": -1}, "max_wait_ms must be at least 0 and finite, got -1"),
    ],
)
def test_refuses(setting, reason):
    with pytest.raises(SettingError, match=reason):
        Batcher(FakePolicy().act, **setting)
