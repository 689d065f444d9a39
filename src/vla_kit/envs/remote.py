"""Environments on other machines: a server that starts a process per environment, and a host that asks it.

Both ends must trust each other: what crosses the network is pickled, as between processes. A key of at least sixteen
bytes, the same file on both sides, keeps strangers out; it does not hide what is said.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener, answer_challenge, deliver_challenge
from pathlib import Path
from subprocess import Popen
from typing import Any

from vla_kit.envs._connected_host import ConnectedHost
from vla_kit.envs.protocol import SimulationError
from vla_kit.envs.workers import start_worker
from vla_kit.errors import SettingError

__all__ = ["RemoteEnv", "read_key", "serve_envs"]

_KEY_BYTES = 16


class RemoteEnv(ConnectedHost):
    """An environment on a server of `serve_envs`; satisfies `EnvHost`.

    As `EnvWorker`, with a network in between: the server starts a process for it, which ends with the connection. A
    call that is not answered in time, and a server or a network that fails, are a `SimulationError`; `restart` connects
    anew.

    Args:
        address: `host:port` of the server.
        key: The server's key, see `read_key`.
        timeout_s: Longest time that one call may take [s]. Making the environment has five minutes.

    Raises:
        SettingError: If `address` is no `host:port`, or `timeout_s` is not positive and finite.
    """

    def __init__(self, address: str, *, key: bytes, timeout_s: float = 60.0) -> None:
        super().__init__(timeout_s=timeout_s)
        self.address = _parsed(address)
        self._key = key

    def _open(self) -> "Connection[Any, Any]":
        name = "{}:{}".format(*self.address)
        try:
            connection: Connection[Any, Any] = Client(self.address, authkey=self._key)
        except AuthenticationError as error:
            raise SettingError(
                f"key must be that of the server {name}, got another. Give both the same file."
            ) from error
        except (OSError, EOFError) as error:
            raise SimulationError(
                f"a server of environments must answer at {name}, got {error}. Start vla-kit envs serve there."
            ) from error
        _without_delay(connection)
        return connection

    def _end(self, wait_s: float) -> str:
        return f" with its connection to {self.address[0]}:{self.address[1]}"


def read_key(path: str | Path) -> bytes:
    """Read the key that both sides share.

    Args:
        path: File with at least 16 bytes, such as `head -c 32 /dev/urandom > key` writes.

    Returns:
        Its bytes.

    Raises:
        SettingError: If the file is missing or shorter.
    """
    place = Path(path)
    content = place.read_bytes() if place.is_file() else b""
    if len(content) < _KEY_BYTES:
        raise SettingError(
            f"key_file must hold at least {_KEY_BYTES} bytes, got {len(content)} in {path}. "
            "Make one with: head -c 32 /dev/urandom > key"
        )
    return content


def serve_envs(
    key_file: str,
    address: str = "127.0.0.1:7010",
    max_envs: int = 256,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve environments to rollouts and evaluations on other machines, until it is stopped.

    Each connection has a process of its own, which makes whatever environment it is asked for, and ends with it.

    Args:
        key_file: File with the key that clients have too.
        address: `host:port` to listen on; the default serves this machine alone. Port 0 takes a free one.
        max_envs: Environments at a time; further connections are closed.
        on_ready: Called with the address, once connections are taken.

    Raises:
        SettingError: If the file holds no key, `address` is no `host:port` or not free, or `max_envs` is below 1.
    """
    key = read_key(key_file)
    if max_envs < 1:
        raise SettingError(f"max_envs must be at least 1, got {max_envs}. Count environments.")
    running: list[Popen[bytes]] = []
    lock = threading.Lock()

    def admit(connection: "Connection[Any, Any]") -> None:
        with connection, suppress(AuthenticationError, OSError, EOFError):
            deliver_challenge(connection, key)
            answer_challenge(connection, key)
            with lock:
                running[:] = [process for process in running if process.poll() is None]
                if len(running) < max_envs:
                    _without_delay(connection)
                    running.append(start_worker(connection.fileno()))

    try:
        opened = Listener(_parsed(address), backlog=max_envs)
    except OSError as error:
        raise SettingError(f"address must be free, got {address!r}: {error}. Choose another port.") from error
    with opened as listener:
        host, port = listener.address
        if on_ready is not None:
            on_ready(f"{host}:{port}")
        try:
            while True:
                connection: Connection[Any, Any] = listener.accept()
                threading.Thread(target=admit, args=(connection,), daemon=True).start()
        finally:
            for process in running:
                process.kill()


def _parsed(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise SettingError(f"address must be host:port, got {address!r}. Write it such as 10.0.0.7:7010.")
    return host, int(port)


def _without_delay(connection: "Connection[Any, Any]") -> None:
    """Small messages go out at once: each is waited for."""
    with socket.socket(fileno=socket.dup(connection.fileno())) as other:
        other.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
