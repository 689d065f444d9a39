"""Somebody else's policy behind the websocket protocol of openpi's clients, and one client that asks it.

Run: python examples/reuse/policy_server.py (5 seconds on one CPU core; needs `pip install 'vla-kit[serving]'`)

The policy has two attributes and one method. Batches across clients, limits, the warm-up, metrics and refusals with a
reason come from the server. It listens on the loopback address here and needs a token anywhere else.
"""

import asyncio
import sys
from collections.abc import Sequence

import numpy as np
from websockets.asyncio.client import connect

from vla_kit.embodiment import EmbodimentPrompter, preset
from vla_kit.policy import PolicyObservation
from vla_kit.serving import ObservationKeys
from vla_kit.serving.server import PolicyServer
from vla_kit.serving.wire import pack_message, unpack_message


class TheirPolicy:
    """Moves along x as fast as the picture is bright."""

    prompter = EmbodimentPrompter([preset("widowx")])  # tells the server its robots
    states = None  # reads no state

    def act(self, observations: Sequence[PolicyObservation]) -> list[np.ndarray]:
        """One chunk per observation."""
        chunks = [np.zeros((16, 7), dtype=np.float32) for _ in observations]
        for chunk, seen in zip(chunks, observations, strict=True):
            chunk[:, 0] = np.asarray(seen.views["cam_high"]).mean() / 255
        return chunks


async def main() -> None:
    """Open the server on a free port, ask twice, close it."""
    server = PolicyServer(TheirPolicy(), robots=[ObservationKeys(embodiment="widowx")])
    async with server.listening(port=0) as port, connect(f"ws://127.0.0.1:{port}") as client:
        robots = unpack_message(await client.recv())["robots"]
        sys.stdout.write(f"the server drives {list(robots)}\n")
        picture = np.full((64, 64, 3), 51, dtype=np.uint8)
        await client.send(pack_message({"observation/image": picture, "prompt": "put the carrot on the plate"}))
        actions = unpack_message(await client.recv())["actions"]
        sys.stdout.write(f"actions {actions.shape}, the first {actions[0].round(2).tolist()}\n")
        await client.send(pack_message({"prompt": "put the carrot on the plate"}))
        sys.stdout.write(f"without a picture: {await client.recv()}\n")


if __name__ == "__main__":
    asyncio.run(main())
