"""The process behind an `EnvWorker`: `python -m vla_kit.envs._worker <file descriptor of its pipe>`."""

import os
import select
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Any, Final

from vla_kit.envs._holder import EnvHolder

__all__: list[str] = []

_GRACE_S: Final = 10.0


def _serve(connection: "Connection[Any, Any]") -> None:
    holder = EnvHolder()
    try:
        while True:
            try:
                message = connection.recv_bytes()
            except (EOFError, OSError):  # the other end is closed, or its process is gone
                return
            reply = holder.answer(message)
            try:
                connection.send(reply)
            except OSError:
                return
    finally:
        holder.close()


def _end_with(parent: int, connection: int) -> None:
    """A simulator that hangs would outlive the process that started it, or whoever asked over a network."""
    ended = select.poll()
    ended.register(connection, select.POLLHUP | getattr(select, "POLLRDHUP", 0))  # macOS has the first alone
    while os.getppid() == parent and not ended.poll(1000):
        pass
    if os.getppid() == parent:
        time.sleep(_GRACE_S)  # to close the environment, where it does not hang
    os._exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's, who then closes the pipe
    threading.Thread(target=_end_with, args=(os.getppid(), int(sys.argv[1])), daemon=True).start()
    _serve(Connection(int(sys.argv[1])))
