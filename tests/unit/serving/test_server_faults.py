"""What clients do wrong costs them their connection and nobody else anything."""

import asyncio
import random
import resource
import struct

import numpy as np
import pytest
from fake_policy import FakePolicy, picture, seen
from prometheus_client.parser import text_string_to_metric_families
from test_policy_server import ask, client, run
from websockets.exceptions import ConnectionClosed, InvalidStatus

from vla_kit.serving.wire import pack_message, unpack_message


def counts(server):
    families = text_string_to_metric_families(server.metrics.text())
    samples = [sample for family in families for sample in family.samples]
    return {s.labels["outcome"]: s.value for s in samples if s.name == "vla_kit_requests_total"}


async def refusal(port, data):
    """What a client gets for some bytes: the text, the code, and whether another client is still answered."""
    async with client(port) as bystander, client(port) as connection:
        await bystander.recv()
        await connection.recv()
        await connection.send(data)
        text = await connection.recv()
        with pytest.raises(ConnectionClosed) as closed:
            await connection.recv()
        answer = await ask(bystander, seen(5))
        assert answer["actions"][0, 0] == 5
        return text, closed.value.rcvd.code


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pack_message(seen(embodiment="crane")), "DataError: message of 'crane' must have the pictures ['front']"),
        (pack_message({"prompt": "push", "embodiment": "arm"}), "got none under ['observation/image'"),
        (
            pack_message(seen() | {"observation/image": picture().astype(np.float32)}),
            "DtypeError: views['cam_high'] must be uint8",
        ),
        (
            pack_message(seen() | {"observation/image": picture()[0]}),
            "ShapeError: views['cam_high'] must have the shape",
        ),
        (pack_message(seen(embodiment="boat")), "EmbodimentError: embodiment must be one of ['arm', 'crane']"),
        (
            pack_message(seen() | {"observation/state": np.array([np.nan])}),
            "DataError: observation/state must be finite, got NaN",
        ),
        (b"garbage", "DataError: message must be one msgpack map"),
        (pack_message(seen())[:-3], "DataError: message must be one msgpack map"),
        ("a text", "DataError: message must be msgpack bytes, got text"),
    ],
)
def test_a_message_that_is_wrong_is_refused_with_its_reason(data, reason):
    async def scenario(server, port, policy):
        refused = await refusal(port, data)
        return refused, counts(server)

    (text, code), counted = run(scenario)
    assert reason in text
    assert "Traceback" not in text
    assert code == 1011
    assert counted == {"answered": 1, "invalid": 1, "refused": 0, "failed": 0}


@pytest.mark.parametrize(
    ("words", "reason"), [("burn", "RuntimeError: the arm burns"), ("vanish", "DataError: actions must be finite")]
)
def test_a_policy_that_raises_gives_its_traceback_and_goes_on(words, reason):
    async def scenario(server, port, policy):
        refused = await refusal(port, pack_message(seen(prompt=words)))
        return refused, counts(server)

    (text, code), counted = run(scenario)
    assert text.startswith("Traceback (most recent call last)")
    assert reason in text
    assert code == 1011
    assert counted["failed"] == 1


def test_a_client_that_leaves_while_the_policy_computes():
    policy = FakePolicy()

    async def scenario(server, port, policy):
        policy.gate.clear()
        async with client(port) as connection:
            await connection.recv()
            await connection.send(pack_message(seen(1)))
            while len(policy.batches) < 4:
                await asyncio.sleep(0.001)
            connection.transport.abort()
        policy.gate.set()
        async with client(port) as connection:
            await connection.recv()
            return (await ask(connection, seen(2)))["actions"][0, 0]

    assert run(scenario, policy=policy) == 2


async def shake_hands(port):
    """A connection without a websocket library at the other end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"GET / HTTP/1.1\r\nHost: robot\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    await frame(reader)  # the metadata
    return reader, writer


async def frame(reader):
    """Operation and content of the next frame from the server."""
    first, size = await reader.readexactly(2)
    if size >= 126:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
    return first & 15, await reader.readexactly(size)


def announce(size, *, whole=True):
    """The head of a masked binary frame of so many bytes."""
    return bytes([0x82 if whole else 0x02, 0xFF]) + struct.pack(">Q", size) + bytes(4)


async def answered(port, value=8):
    async with client(port) as connection:
        await connection.recv()
        return (await ask(connection, seen(value)))["actions"][0, 0] == value


@pytest.mark.parametrize(
    "sent",
    [b"", b"\x82", announce(1000), announce(1000) + b"half", announce(9, whole=False) + b"9 letters"],
    ids=["nothing", "half a header", "a header", "half a message", "a part without an end"],
)
def test_half_a_message_and_no_more(sent):
    async def scenario(server, port, policy):
        _, writer = await shake_hands(port)
        writer.write(sent)
        await writer.drain()
        while_it_hangs = await answered(port)
        writer.transport.abort()
        return while_it_hangs, await answered(port), counts(server)

    while_it_hangs, later, counted = run(scenario)
    assert while_it_hangs
    assert later
    assert counted["answered"] == 2


@pytest.mark.parametrize(
    "sent",
    [b"\xff" * 64, b"GET / HTTP/1.1\r\n\r\n" * 4, random.Random(0).randbytes(64)],
    ids=["ones", "another request", "anything"],
)
def test_bytes_that_are_no_frames(sent):
    async def scenario(server, port, policy):
        reader, writer = await shake_hands(port)
        writer.write(sent)
        await asyncio.wait_for(reader.read(), 15)  # until the server hangs up
        writer.close()
        return await answered(port)

    assert run(scenario)


def test_bytes_that_are_no_http():
    async def scenario(server, port, policy):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01 hello, TLS here\r\n\r\n")
        await asyncio.wait_for(reader.read(), 15)
        writer.close()
        return await answered(port)

    assert run(scenario)


def test_a_message_of_a_gigabyte_is_refused_by_its_head():
    """The head alone is sent: the server must neither wait for the rest nor make room for it."""

    async def scenario(server, port, policy):
        await answered(port)
        reader, writer = await shake_hands(port)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        writer.write(announce(10**9))
        operation, content = await asyncio.wait_for(frame(reader), 10)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        writer.close()
        return operation, int.from_bytes(content[:2], "big"), grown, await answered(port)

    operation, code, grown_kb, later = run(scenario)
    assert (operation, code) == (8, 1009)  # close: message too big
    assert grown_kb < 50_000
    assert later


def test_pieces_that_add_up_to_too_much_are_refused():
    async def scenario(server, port, policy):
        reader, writer = await shake_hands(port)
        piece = bytes(400_000)
        writer.write(announce(len(piece), whole=False) + piece)
        for _ in range(3):
            writer.write(b"\x00" + announce(len(piece))[1:] + piece)
        operation, content = await asyncio.wait_for(frame(reader), 10)
        writer.close()
        return operation, int.from_bytes(content[:2], "big"), await answered(port)

    assert run(scenario, max_message_mb=1) == (8, 1009, True)


def test_too_many_requests_of_one_client_are_refused():
    async def scenario(server, port, policy):
        async with client(port) as greedy:
            await greedy.recv()
            for value in range(3):
                assert (await ask(greedy, seen(value)))["actions"][0, 0] == value
            await greedy.send(pack_message(seen()))
            text = await greedy.recv()
            with pytest.raises(ConnectionClosed) as closed:
                await greedy.recv()
        return text, closed.value.rcvd.code, await answered(port), counts(server)

    text, code, later, counted = run(scenario, max_rate_hz=3)
    assert "OverloadError: a client must send at most 3 requests per second" in text
    assert code == 1013
    assert later
    assert counted["refused"] == 1


def test_a_full_queue_refuses_with_a_reason_and_loses_nothing():
    policy = FakePolicy()

    async def scenario(server, port, policy):
        policy.gate.clear()
        connections = [await client(port) for _ in range(6)]
        for connection in connections:
            await connection.recv()

        async def one(connection, value):
            await connection.send(pack_message(seen(value)))
            data = await connection.recv()
            return data if isinstance(data, str) else unpack_message(data)["actions"][0, 0]

        first = asyncio.create_task(one(connections[0], 0))
        while len(policy.batches) < 4:
            await asyncio.sleep(0.001)
        rest = [asyncio.create_task(one(connection, value)) for value, connection in enumerate(connections[1:], 1)]
        while counts(server)["refused"] < 3:
            await asyncio.sleep(0.001)
        policy.gate.set()
        return [await task for task in (first, *rest)]

    got = run(scenario, policy=policy, max_batch=1, max_queue=2)
    numbers = [value for value in got if not isinstance(value, str)]
    texts = [value for value in got if isinstance(value, str)]
    assert got[0] == 0
    assert len(numbers) == 3
    assert len(texts) == 3
    assert all("OverloadError: queue must hold at most 2 requests" in text for text in texts)
    assert all(value == place for place, value in enumerate(got) if not isinstance(value, str))


@pytest.mark.parametrize(("allowed", "expected"), [(64, 64), (256, 200)])
def test_two_hundred_clients_at_once(allowed, expected):
    async def scenario(server, port, policy):
        async def one(value):
            try:
                async with client(port) as connection:
                    await connection.recv()
                    got = (await ask(connection, seen(value)))["actions"][0, 0]
                    await everybody.wait()
                    return got
            except InvalidStatus as refused:
                return refused.response.status_code

        everybody = asyncio.Event()
        tasks = [asyncio.create_task(one(value)) for value in range(200)]
        while counts(server)["answered"] + sum(task.done() for task in tasks) < 200:
            await asyncio.sleep(0.01)
        counted = counts(server)
        everybody.set()
        return await asyncio.gather(*tasks), counted, await answered(port)

    got, counted, later = run(scenario, max_connections=allowed, max_queue=256)
    assert sum(value == place for place, value in enumerate(got)) == expected
    assert sum(value == 503 for value in got) == 200 - expected
    assert counted == {"answered": expected, "invalid": 0, "refused": 0, "failed": 0}
    assert later


def test_a_connection_that_ends_makes_room_for_another():
    async def scenario(server, port, policy):
        for value in range(5):
            assert await answered(port, value)
        async with client(port) as connection:
            await connection.recv()
            with pytest.raises(InvalidStatus):
                await answered(port)
        return await answered(port)

    assert run(scenario, max_connections=1)
