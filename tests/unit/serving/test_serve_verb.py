"""From a saved folder to actions over the network, and the command line in front of it."""

import asyncio
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from test_policy_server import TOKEN, ask, client

from vla_kit.actions import QuantileNormalizer, QuantileStats
from vla_kit.backbones.tiny import tiny_qwen3_vl
from vla_kit.cli import main
from vla_kit.embodiment import EmbodimentPrompter, preset
from vla_kit.errors import CheckpointError, SettingError
from vla_kit.flow import Euler
from vla_kit.heads import DiTHead
from vla_kit.policy import Policy, PolicyObservation
from vla_kit.serving.serve import serve
from vla_kit.serving.server import PolicyServer
from vla_kit.serving.vla_eval_server import VLAEvalServer
from vla_kit.serving.wire import unpack_message

SERVE = """
import sys
sys.modules["lightning"] = None
from vla_kit.serving.serve import serve
serve(sys.argv[1], port=int(sys.argv[2]), token_file=sys.argv[3], warm_up_size=32)
"""


@pytest.fixture(scope="module")
def policy():
    """Without noise, so that it answers the same question in the same way."""
    torch.manual_seed(0)
    specs = [preset("widowx"), preset("navigation")]
    one = {spec.name: torch.ones(spec.action_space.size) for spec in specs}
    stats = {name: QuantileStats(q01=-ones, q99=ones) for name, ones in one.items()}
    return Policy(
        tiny_qwen3_vl(corpus=["push the cup"], view_tags=["cam_high", "cam_left_wrist"], image_size=32, hidden=32),
        head=DiTHead(context_width=32, channels=8, width=16, depth=1, num_heads=2, mlp_hidden=16),
        prompter=EmbodimentPrompter(specs),
        normalizer=QuantileNormalizer(stats, spaces={spec.name: spec.action_space for spec in specs}),
        solver=Euler(steps=2),
        channels=8,
        temperature=0.0,
    )


@pytest.fixture(scope="module")
def folder(policy, tmp_path_factory):
    saved = tmp_path_factory.mktemp("policies") / "policy"
    policy.save(saved)
    return saved


def test_a_saved_policy_is_served_without_lightning_until_it_is_told_to_stop(policy, folder, tmp_path):
    token_file = tmp_path / "token.txt"
    token_file.write_text(TOKEN + "\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    expected = {
        name: policy.act([PolicyObservation(embodiment=name, instruction="push", views={"cam_high": noise})])[0]
        for name in ("widowx", "navigation")
    }

    async def talk():
        for _ in range(600):
            try:
                connection = await client(port, additional_headers={"Authorization": f"Bearer {TOKEN}"})
                break
            except OSError:
                await asyncio.sleep(0.2)
        metadata = unpack_message(await asyncio.wait_for(connection.recv(), 120))
        answers = {
            name: (await ask(connection, {"observation/image": noise, "prompt": "push", "embodiment": name}))["actions"]
            for name in expected
        }
        await connection.close()
        return metadata, answers

    command = [sys.executable, "-c", SERVE, folder, str(port), token_file]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        metadata, answers = asyncio.run(talk())
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert list(metadata["robots"]) == ["widowx", "navigation"]
    for name, chunk in expected.items():
        np.testing.assert_allclose(answers[name], chunk, atol=1e-5)
    assert "stopped: 2 answered, 0 invalid, 0 refused, 0 failed" in log
    assert TOKEN not in log


def test_the_command_line_sets_robots_and_limits_by_yaml(folder, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(PolicyServer, "run", lambda self, host, port: started.append((self, host, port)))
    config = tmp_path / "serve.yaml"
    config.write_text(
        f"checkpoint: {folder}\n"
        "max_queue: 3\n"
        "robots:\n"
        "  - embodiment: widowx\n"
        "    views: {cam_high: images/front}\n"
        "    default_instruction: lift\n"
    )
    main(["serve", "--config", str(config), "--port", "1234", "--max_batch", "2"])
    ((server, host, port),) = started
    assert (host, port) == ("127.0.0.1", 1234)
    assert server.metadata["robots"]["widowx"]["views"] == {"cam_high": "images/front"}
    assert list(server.metadata["robots"]) == ["widowx"]


def test_all_robots_are_served_where_none_is_named(folder, monkeypatch):
    started = []
    monkeypatch.setattr(PolicyServer, "run", lambda self, host, port: started.append(self))
    serve(str(folder))
    assert list(started[0].metadata["robots"]) == ["widowx", "navigation"]


def test_a_saved_policy_is_a_model_server_of_vla_eval(policy, folder):
    server = VLAEvalServer(str(folder), embodiment="widowx", views={"cam_high": "agentview"}, warm_up_size=32)
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    seen = PolicyObservation(embodiment="widowx", instruction="push", views={"cam_high": noise})
    (answer,) = server.predict_batch([seen], [])
    np.testing.assert_allclose(answer["actions"], policy.act([seen])[0], atol=1e-5)
    assert server.chunk_size == 16


def test_refuses(folder, tmp_path):
    with pytest.raises(SettingError, match="token must be given where other machines can connect"):
        serve(str(folder), host="0.0.0.0")
    with pytest.raises(SettingError, match="token_file must name a file"):
        serve(str(folder), token_file=str(tmp_path / "absent.txt"))
    with pytest.raises(CheckpointError, match="folder must be one that Policy"):
        serve(str(tmp_path))
    with pytest.raises(SettingError, match="robots must hold at least one"):
        PolicyServer(Policy.load(folder), robots=[])
