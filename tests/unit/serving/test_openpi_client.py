"""openpi-client as it is on PyPI, in a process and an environment of its own, against our server."""

import asyncio
import json
import re
import subprocess
from pathlib import Path

import numpy as np
from test_policy_server import TOKEN, run

from vla_kit.serving import ObservationKeys
from vla_kit.serving.wire import pack_message, unpack_message

CLIENT = """
import json, sys
import numpy as np
from openpi_client.websocket_client_policy import WebsocketClientPolicy

port, key, words = int(sys.argv[1]), sys.argv[2] or None, sys.argv[3]
assert np.__version__ < "2"
assert "torch" not in sys.modules
client = WebsocketClientPolicy(host="127.0.0.1", port=port, api_key=key)
for value in (7, 8):
    answer = client.infer({
        "observation/image": np.full((8, 8, 3), value, dtype=np.uint8),
        "observation/wrist_image": np.zeros((8, 8, 3), dtype=np.uint8),
        "observation/state": np.zeros(8),
        "prompt": words,
        "embodiment": "arm",
    })
client.reset()
print(json.dumps({
    "metadata": client.get_server_metadata(),
    "actions": answer["actions"].tolist(),
    "dtype": str(answer["actions"].dtype),
    "timing": answer["server_timing"],
}))
"""

BROKER = """
import json, sys
import numpy as np
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy

broker = ActionChunkBroker(WebsocketClientPolicy("127.0.0.1", int(sys.argv[1])), action_horizon=2)
steps = []
for value in (5, 6, 7):
    picture = np.full((8, 8, 3), value, dtype=np.uint8)
    answer = broker.infer({"observation/image": picture, "prompt": "push", "embodiment": "arm"})
    steps.append(answer["actions"].tolist())
print(json.dumps(steps))
"""

CODEC = """
import sys
import numpy as np
from openpi_client import msgpack_numpy

message = {
    "picture": np.arange(24, dtype=np.uint8).reshape(2, 4, 3),
    "state": np.array([0.5, -1.5]),
    "half": np.float16([1]),
    "flags": np.array([True, False]),
    "empty": np.zeros((0, 2), dtype=">i4"),
    "scalar": np.float32(1.5),
    "count": np.int64(3),
    "plain": ["text", b"bytes", 1, 2.5, None, True, {"deep": [1]}],
}
sys.stdout.buffer.write(msgpack_numpy.packb(msgpack_numpy.unpackb(sys.stdin.buffer.read()) or message))
"""


async def converse(python, program, port, *arguments):
    """Run a client beside the server: its status, what it says and what it complains of."""
    command = [python, "-c", program, str(port), *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode, out.decode(), err.decode()


def test_the_unmodified_client_gets_actions(openpi_python):
    async def scenario(server, port, policy):
        return await converse(openpi_python, CLIENT, port, "", "push"), server.metadata

    (status, out, err), metadata = run(scenario)
    assert status == 0, err
    got = json.loads(out)
    assert got["metadata"] == metadata
    assert got["actions"] == [[8.0, 8.0]] * 4
    assert got["dtype"] == "float32"
    assert set(got["timing"]) == {"infer_ms", "queue_ms", "batch_size", "prev_total_ms"}


def test_its_api_key_is_our_token(openpi_python):
    async def scenario(server, port, policy):
        return [await converse(openpi_python, CLIENT, port, key, "push") for key in (TOKEN, "wrong")]

    right, wrong = run(scenario, token=TOKEN)
    assert right[0] == 0, right[2]
    assert wrong[0] != 0
    assert "HTTP 401" in wrong[2]


def test_it_shows_the_traceback_of_a_policy_that_raises(openpi_python):
    async def scenario(server, port, policy):
        return await converse(openpi_python, CLIENT, port, "", "burn")

    status, _, err = run(scenario)
    assert status != 0
    assert "RuntimeError: Error in inference server:\nTraceback (most recent call last)" in err
    assert "RuntimeError: the arm burns" in err


def test_its_broker_hands_out_our_chunks_step_by_step(openpi_python):
    """Nothing but the actions may be an array, for the broker cuts every array into steps."""

    async def scenario(server, port, policy):
        return await converse(openpi_python, BROKER, port)

    status, out, err = run(scenario)
    assert status == 0, err
    assert json.loads(out) == [[5.0, 5.0], [5.0, 5.0], [7.0, 7.0]]


def test_both_write_and_read_the_same_bytes(openpi_python):
    def theirs(data):
        return subprocess.run([openpi_python, "-c", CODEC], input=data, capture_output=True, check=True).stdout

    written = theirs(pack_message({}))
    read = unpack_message(written)
    assert read["picture"].tolist() == np.arange(24).reshape(2, 4, 3).tolist()
    assert read["empty"].shape == (0, 2)
    assert read["scalar"] == np.float32(1.5)
    assert read["plain"] == ["text", b"bytes", 1, 2.5, None, True, {"deep": [1]}]
    assert pack_message(read) == written
    assert theirs(pack_message(read)) == written


def test_the_example_of_the_documentation_runs(openpi_python):
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "serve-a-policy.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```py\n(.*?)```", page, re.DOTALL)
    assert "port=8000" in block

    async def scenario(server, port, policy):
        return await converse(openpi_python, block.replace("port=8000", f"port={port}"), port)

    status, out, err = run(scenario, robots=[ObservationKeys(embodiment="arm")])
    assert status == 0, err
    assert "'chunk_size': 4" in out
    assert "(4, 2) {'infer_ms':" in out
