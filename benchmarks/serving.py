"""What serving a policy costs, and what batching its clients gains, with a tiny policy on loopback.

Run: python benchmarks/serving.py [--rounds 20] [--requests 20] ...

Servers run in processes of their own. In each round the same observations (two pictures of 224x224 and a state, as
openpi's clients send them) go

    to `Policy.act` in this process, and through a server one after the other: the difference of the medians of a round
    is what the server adds (`overhead_ms`);
    from eight clients at once to a server that answers one at a time, and to one that answers up to eight in a batch:
    the ratio of chunks per second is what batching gains (`batch_ratio`).

The turns alternate, so a busy machine hurts all alike; medians over the rounds count. The last lines of the output are
JSON, one per figure: its name, its value and what this repository wants, overhead below and gain above.
"""

import argparse
import asyncio
import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from websockets.asyncio.client import ClientConnection, connect

from record import median_interval, provenance, write_results
from vla_kit.actions import QuantileNormalizer, QuantileStats
from vla_kit.backbones.tiny import tiny_qwen3_vl
from vla_kit.embodiment import EmbodimentPrompter, preset
from vla_kit.flow import Euler
from vla_kit.heads import DiTHead
from vla_kit.policy import Policy
from vla_kit.serving import ObservationKeys, ObservationReader
from vla_kit.serving.server import PolicyServer
from vla_kit.serving.wire import pack_message, unpack_message

GOALS = {"overhead_ms": 5.0, "batch_ratio": 2.0}
ROBOT, SIZE, CLIENTS = "widowx", 224, 8
WORDS = "put the carrot on the plate"


def main() -> None:
    """Start the servers, let all take turns and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=20, help="of each client in each round")
    parser.add_argument("--results", type=Path, help="file of docs/results to write the figures to")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)  # what a child process is told
    settings = parser.parse_args()
    torch.set_num_threads(1)
    if settings.serve is not None:
        asyncio.run(serve(settings.serve))
        return
    children = [
        subprocess.Popen([sys.executable, __file__, "--serve", str(size)], stdout=subprocess.PIPE, text=True)
        for size in (1, CLIENTS)
    ]
    try:
        single, batched = (int(child.stdout.readline()) for child in children)
        figures = asyncio.run(measure(single, batched, settings))
    finally:
        for child in children:
            child.send_signal(signal.SIGTERM)
            child.wait()
    print(
        f"Policy.act {figures['policy_ms']:.2f} ms, through the server {figures['served_ms']:.2f} ms; "
        f"{CLIENTS} clients {figures['single_hz']:.1f} chunks/s one by one, {figures['batched_hz']:.1f} in batches"
    )
    values = {name: round(figures[name]["value"], 3) for name in GOALS}
    if settings.results:
        goals = {f"{name}_goal": goal for name, goal in GOALS.items()}
        details = {"details": figures | goals | {"requests": settings.requests, "clients": CLIENTS} | provenance()}
        write_results(settings.results, values | details)
    for name, value in values.items():
        print(json.dumps({"name": f"serving_{name}", "ratio": value, "goal": GOALS[name]}))


def tiny_policy() -> Policy:
    """The same weights in every process."""
    torch.manual_seed(0)
    spec = preset(ROBOT)
    size = spec.action_space.size
    return Policy(
        tiny_qwen3_vl(corpus=[WORDS], view_tags=["cam_high", "cam_left_wrist"], hidden=32, patch_size=16),
        head=DiTHead(context_width=32, channels=8, width=32, depth=2, num_heads=2, mlp_hidden=32, attention="cached"),
        prompter=EmbodimentPrompter([spec]),
        normalizer=QuantileNormalizer(
            {ROBOT: QuantileStats(q01=torch.zeros(size), q99=torch.ones(size))}, spaces={ROBOT: spec.action_space}
        ),
        solver=Euler(steps=10),
        channels=8,
    )


async def serve(max_batch: int) -> None:
    """A child: serve until SIGTERM, and say where."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = PolicyServer(
        tiny_policy(), robots=[ObservationKeys(embodiment=ROBOT)], max_batch=max_batch, max_rate_hz=1e6
    )
    async with server.listening(port=0) as port:
        print(port, flush=True)
        await stop.wait()


def messages(count: int) -> list[dict[str, Any]]:
    """What a client of openpi sends."""
    rng = np.random.default_rng(0)
    return [
        {
            "observation/image": rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8),
            "observation/wrist_image": rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8),
            "observation/state": rng.normal(size=8),
            "prompt": WORDS,
        }
        for _ in range(count)
    ]


async def measure(single: int, batched: int, settings: argparse.Namespace) -> dict[str, Any]:
    """All figures, from servers at two ports."""
    policy, sent = tiny_policy(), messages(settings.requests)
    reader = ObservationReader([ObservationKeys(embodiment=ROBOT)])
    seen = [reader(message) for message in sent]
    clients = {port: [await connected(port) for _ in range(CLIENTS)] for port in (single, batched)}
    alone: list[float] = []
    served: list[float] = []
    chunks: dict[int, list[float]] = {single: [], batched: []}
    for turn in track(range(settings.rounds + 1), description="measure"):
        policy_ms = [timed(lambda one=one: policy.act([one])) for one in seen]
        served_ms = [await asked(clients[batched][0], message) for message in sent]
        rates = {
            port: await together(clients[port], sent) for port in ((single, batched) if turn % 2 else (batched, single))
        }
        if turn:  # the first round warms up
            alone.append(statistics.median(policy_ms))
            served.append(statistics.median(served_ms))
            for port, rate in rates.items():
                chunks[port].append(rate)
    for connection in (connection for group in clients.values() for connection in group):
        await connection.close()
    return {
        "overhead_ms": median_interval([after - before for before, after in zip(alone, served, strict=True)]),
        "batch_ratio": median_interval([b / a for a, b in zip(chunks[single], chunks[batched], strict=True)]),
        "policy_ms": statistics.median(alone),
        "served_ms": statistics.median(served),
        "single_hz": statistics.median(chunks[single]),
        "batched_hz": statistics.median(chunks[batched]),
    }


async def connected(port: int) -> ClientConnection:
    """A client that has heard of the server's metadata."""
    connection = await connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None)
    await connection.recv()
    return connection


def timed(call: Callable[[], object]) -> float:
    """Milliseconds of a call."""
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


async def asked(connection: ClientConnection, message: dict[str, Any]) -> float:
    """Milliseconds of a request, packing and unpacking included."""
    start = time.perf_counter()
    await connection.send(pack_message(message))
    answer = unpack_message(await connection.recv())
    if answer["actions"].shape != (16, 7):
        raise SystemExit(f"the server must answer with a chunk of 16 x 7, got {answer}")
    return 1e3 * (time.perf_counter() - start)


async def together(connections: Sequence[ClientConnection], sent: Sequence[dict[str, Any]]) -> float:
    """Chunks per second of clients that ask at once, each for one after the other."""

    async def one(connection: ClientConnection) -> None:
        for message in sent:
            await asked(connection, message)

    start = time.perf_counter()
    await asyncio.gather(*(one(connection) for connection in connections))
    return len(connections) * len(sent) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
