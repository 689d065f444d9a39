"""The process behind an `EnvWorker`: `python -m vla_kit.envs._worker <file descriptor of its pipe>`."""

import os
import pickle
import select
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any, Final

from vla_kit.envs.hosts import facts_of
from vla_kit.envs.protocol import PolicyEnv
from vla_kit.errors import VLAKitError

__all__: list[str] = []

_GRACE_S: Final = 10.0


def _serve(connection: "Connection[Any, Any]") -> None:
    env: PolicyEnv | None = None
    try:
        while True:
            try:
                message = connection.recv_bytes()
            except (EOFError, OSError):  # the other end is closed, or its process is gone
                return
            try:
                what, *content = pickle.loads(message)
                if what == "make":
                    if env is not None:
                        env.close()
                    (make_env,) = content
                    env = make_env()
                    answer: Any = facts_of(env)
                else:
                    function, arguments = content
                    answer = function(env, *arguments)
                reply: tuple[Any, ...] = ("answer", answer)
            except Exception as error:  # it belongs to whoever asked
                reply = ("error", _portable(error), f"{type(error).__name__}: {error}", traceback.format_exc())
            try:
                connection.send(reply)
            except OSError:
                return
    finally:
        if env is not None:
            env.close()


def _portable(error: Exception) -> VLAKitError | None:
    """An error of the library that survives the pipe; others travel as text."""
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:  # a constructor that takes more than its text
        return None
    return copy if isinstance(copy, VLAKitError) else None


def _end_with(parent: int, connection: int) -> None:
    """A simulator that hangs would outlive the process that started it, or whoever asked over a network."""
    ended = select.poll()
    ended.register(connection, select.POLLHUP | select.POLLRDHUP)
    while os.getppid() == parent and not ended.poll(1000):
        pass
    time.sleep(_GRACE_S)  # to close the environment, where it does not hang
    os._exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's, who then closes the pipe
    threading.Thread(target=_end_with, args=(os.getppid(), int(sys.argv[1])), daemon=True).start()
    _serve(Connection(int(sys.argv[1])))
