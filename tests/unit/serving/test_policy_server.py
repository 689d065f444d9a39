"""The server on loopback, spoken to with the websockets library alone."""

import asyncio
import json
import logging
import urllib.error
import urllib.request

import numpy as np
import pytest
from fake_policy import FakePolicy, picture, seen
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from vla_kit.errors import EmbodimentError, SettingError
from vla_kit.serving import ObservationKeys
from vla_kit.serving.server import PolicyServer
from vla_kit.serving.wire import pack_message, unpack_message

ROBOTS = [ObservationKeys(embodiment="arm"), ObservationKeys(embodiment="crane", views={"ego": "front"})]
TOKEN = "a secret of enough characters"


def run(scenario, *, policy=None, **settings):
    """Run a scenario with the server, its port and its policy."""
    policy = FakePolicy() if policy is None else policy

    async def inside():
        server = PolicyServer(policy, **({"robots": ROBOTS, "warm_up_size": 8} | settings))
        async with server.listening(port=0) as port:
            return await scenario(server, port, policy)

    return asyncio.run(inside())


def client(port, **settings):
    return connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None, **settings)


async def ask(connection, message):
    await connection.send(pack_message(message))
    return unpack_message(await connection.recv())


async def fetch(port, path, headers=None):
    """Status, type and text of a plain HTTP request."""

    def get():
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers["Content-Type"], error.read().decode()

    return await asyncio.to_thread(get)


def test_a_client_hears_of_the_robots_and_gets_actions():
    async def scenario(server, port, policy):
        async with client(port) as connection:
            metadata = unpack_message(await connection.recv())
            first = await ask(connection, seen(7))
            second = await ask(connection, {"embodiment": "crane", "front": picture(9), "prompt": "lift"})
        return metadata, first, second

    metadata, first, second = run(scenario)
    assert metadata["robots"]["arm"]["chunk_size"] == 4
    assert [channel["name"] for channel in metadata["robots"]["arm"]["actions"]] == ["joint_0", "joint_1"]
    assert metadata["robots"]["crane"]["views"] == {"ego": "front"}
    assert np.array_equal(first["actions"], np.full((4, 2), 7))
    assert first["actions"].dtype == np.float32
    assert np.array_equal(second["actions"], np.full((6, 3), 9))
    assert set(first["server_timing"]) == {"infer_ms", "queue_ms", "batch_size"}
    assert first["server_timing"]["batch_size"] == 1
    assert second["server_timing"]["prev_total_ms"] >= first["server_timing"]["infer_ms"]


def test_clients_of_different_robots_share_batches_and_each_gets_its_own():
    async def scenario(server, port, policy):
        async def one(value):
            async with client(port) as connection:
                await connection.recv()
                arrived.release()
                await begin[min(value, 1)].wait()
                own = {"embodiment": "crane", "front": picture(value)} if value % 2 else {}
                return [float((await ask(connection, seen(value) | own))["actions"][-1, -1]) for _ in range(5)]

        arrived, begin = asyncio.Semaphore(0), [asyncio.Event(), asyncio.Event()]
        policy.gate.clear()
        warm = len(policy.batches)
        tasks = [asyncio.create_task(one(value)) for value in range(6)]
        async with asyncio.timeout(60):
            for _ in tasks:
                await arrived.acquire()
            begin[0].set()
            while len(policy.batches) == warm:  # until the policy is busy with the first client
                await asyncio.sleep(0.001)
            begin[1].set()
            while "vla_kit_waiting 5.0" not in (await fetch(port, "/metrics"))[2]:
                await asyncio.sleep(0.001)
            policy.gate.set()
            return await asyncio.gather(*tasks), policy.batches[warm:]

    answers, batches = run(scenario, max_wait_ms=60_000, max_batch=6)
    assert answers == [[value] * 5 for value in range(6)]
    assert batches == [1, 6, 6, 6, 6, 5]


def test_health_metadata_and_metrics_over_http():
    async def scenario(server, port, policy):
        async with client(port) as connection:
            await connection.recv()
            await ask(connection, seen())
            return [await fetch(port, path) for path in ("/healthz", "/metadata", "/metrics", "/")], server.metadata

    (health, metadata, metrics, other), described = run(scenario)
    assert health == (200, "text/plain; charset=utf-8", "OK\n")
    assert metadata[:2] == (200, "application/json")
    assert json.loads(metadata[2]) == described
    assert metrics[0] == 200
    values = {s.name: s.value for family in text_string_to_metric_families(metrics[2]) for s in family.samples}
    assert values["vla_kit_request_seconds_count"] == 1
    assert values["vla_kit_connections"] == 1
    assert other[0] == 426  # a websocket is wanted there


def test_health_and_metadata_wait_for_the_warm_policy():
    async def scenario():
        policy = FakePolicy()
        policy.gate.clear()
        server = PolicyServer(policy, robots=ROBOTS, warm_up_size=8)
        ports = asyncio.Queue()

        async def serving():
            async with server.listening(port=0):
                await stop.wait()

        stop = asyncio.Event()
        log = logging.getLogger("vla_kit.serving.server")
        handler = logging.Handler()
        handler.emit = lambda record: ports.put_nowait(record.args[1]) if "listening" in record.msg else None
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        try:
            task = asyncio.create_task(serving())
            port = await asyncio.wait_for(ports.get(), 10)
            cold = await fetch(port, "/healthz")
            async with client(port) as connection:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(connection.recv(), 0.1)
                policy.gate.set()
                metadata = unpack_message(await asyncio.wait_for(connection.recv(), 10))
                warm = await fetch(port, "/healthz")
            stop.set()
            await task
        finally:
            log.removeHandler(handler)
        return cold, warm, metadata

    cold, warm, metadata = asyncio.run(scenario())
    assert (cold[0], cold[2]) == (503, "warming up\n")
    assert warm[0] == 200
    assert metadata["server"] == "vla-kit"


def test_a_policy_that_cannot_be_warmed_up_ends_the_server():
    class Broken(FakePolicy):
        def act(self, observations):
            raise RuntimeError("no statistics")

    async def scenario(server, port, policy):
        raise AssertionError("it must not come so far")

    with pytest.raises(RuntimeError, match="no statistics"):
        run(scenario, policy=Broken())


@pytest.mark.parametrize("scheme", ["Bearer", "Api-Key"])
def test_a_token_opens_the_server(scheme):
    async def scenario(server, port, policy):
        right = {"Authorization": f"{scheme} {TOKEN}"}
        async with client(port, additional_headers=right) as connection:
            await connection.recv()
            return await ask(connection, seen(3)), await fetch(port, "/metrics", right)

    answer, metrics = run(scenario, token=TOKEN)
    assert answer["actions"][0, 0] == 3
    assert metrics[0] == 200


@pytest.mark.parametrize("header", [None, "", TOKEN, f"Basic {TOKEN}", "Bearer wrong", "Bearer", f"Bearer {TOKEN}x"])
def test_nobody_gets_in_without_the_token(header):
    async def scenario(server, port, policy):
        headers = {} if header is None else {"Authorization": header}
        with pytest.raises(InvalidStatus) as refused:
            async with client(port, additional_headers=headers):
                pass
        pages = [(await fetch(port, path, headers))[0] for path in ("/metadata", "/metrics", "/healthz")]
        return refused.value.response.status_code, pages, policy.batches

    status, pages, batches = run(scenario, token=TOKEN)
    assert status == 401
    assert pages == [401, 401, 200]
    assert batches == [1, 1, 8]  # the warm-up's


def test_a_web_page_cannot_use_the_server():
    async def scenario(server, port, policy):
        with pytest.raises(InvalidStatus) as refused:
            async with client(port, origin="https://example.org"):
                pass
        return refused.value.response.status_code

    assert run(scenario) == 403


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.168.0.7", "robot.example.org"])
def test_no_token_means_loopback_only(host):
    async def scenario():
        async with PolicyServer(FakePolicy(), robots=ROBOTS).listening(host, 0):
            pass

    with pytest.raises(SettingError, match="token must be given where other machines can connect"):
        asyncio.run(scenario())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.8.8.8"])
def test_loopback_needs_no_token(host):
    async def scenario():
        async with PolicyServer(FakePolicy(), robots=ROBOTS, warm_up_size=8).listening(host, 0) as port:
            return port

    assert asyncio.run(scenario()) > 0


def test_stopping_answers_what_was_accepted_and_says_goodbye_to_the_rest():
    policy = FakePolicy()

    async def inside():
        server = PolicyServer(policy, robots=ROBOTS, warm_up_size=8, max_batch=1)
        idle = answers = None
        async with server.listening(port=0) as port:
            busy = [await client(port) for _ in range(3)]
            idle = await client(port)
            for connection in (*busy, idle):
                await connection.recv()
            policy.gate.clear()
            for value, connection in enumerate(busy):
                await connection.send(pack_message(seen(value)))
            while server._batcher.waiting < 2:
                await asyncio.sleep(0.001)
            asyncio.get_running_loop().call_later(0.2, policy.gate.set)
        answers = [unpack_message(await connection.recv())["actions"][0, 0] for connection in busy]
        codes = []
        for connection in (*busy, idle):
            with pytest.raises(ConnectionClosed) as closed:
                await connection.recv()
            codes.append(closed.value.rcvd.code)
        with pytest.raises(OSError, match="Connect call failed"):
            await client(port)
        return answers, codes

    answers, codes = asyncio.run(inside())
    assert answers == [0, 1, 2]
    assert codes == [1001] * 4


def test_stopping_waits_no_longer_than_told_but_for_the_batch_that_has_begun():
    policy = FakePolicy()

    async def inside():
        server = PolicyServer(policy, robots=ROBOTS, warm_up_size=8, max_batch=1, shutdown_s=0.1)
        async with server.listening(port=0) as port:
            connections = [await client(port) for _ in range(3)]
            for connection in connections:
                await connection.recv()
            policy.gate.clear()
            before = len(policy.batches)
            for connection in connections:
                await connection.send(pack_message(seen()))
            while len(policy.batches) == before or server._batcher.waiting < 2:
                await asyncio.sleep(0.001)
            asyncio.get_running_loop().call_later(0.5, policy.gate.set)
        for connection in connections:
            with pytest.raises(ConnectionClosed):
                await connection.recv()
        return len(policy.batches) - before

    assert asyncio.run(inside()) == 1


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_cannot_be_is_said_so(port):
    async def inside():
        async with PolicyServer(FakePolicy(), robots=ROBOTS).listening(port=port):
            pass

    with pytest.raises(SettingError, match=rf"host and port must be free, got '127\.0\.0\.1' and {port}: .*65535"):
        asyncio.run(inside())


def test_an_address_in_use_is_said_so():
    async def scenario(server, port, policy):
        async with PolicyServer(policy, robots=ROBOTS).listening(port=port):
            pass

    with pytest.raises(SettingError, match=r"host and port must be free, got '127\.0\.0\.1' and"):
        run(scenario)


@pytest.mark.parametrize(
    ("setting", "error", "reason"),
    [
        ({"token": "short"}, SettingError, "token must have at least 16 characters, got 5"),
        ({"max_connections": 0}, SettingError, "max_connections must be above 0 and finite, got 0"),
        ({"max_message_mb": 0}, SettingError, "max_message_mb must be above 0 and finite, got 0"),
        ({"max_rate_hz": -1}, SettingError, "max_rate_hz must be above 0 and finite, got -1"),
        ({"max_batch": 0}, SettingError, "max_batch must be at least 1, got 0"),
        ({"robots": [ObservationKeys(embodiment="boat")]}, EmbodimentError, "'boat'"),
        ({"robots": []}, SettingError, "robots must hold at least one"),
    ],
)
def test_refuses(setting, error, reason):
    with pytest.raises(error, match=reason):
        PolicyServer(FakePolicy(), **({"robots": ROBOTS} | setting))
