"""Environments in processes of their own: they step in parallel, and one that crashes or hangs takes nothing along."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Final

from vla_kit.envs._connected_host import ConnectedHost
from vla_kit.errors import SettingError

__all__ = ["EnvWorker", "env_workers", "start_worker"]

_START_S: Final = 300.0
"""To start a process and build a simulator: many at once share the processor and the disk."""

_END_S: Final = 10.0
_ONE_THREAD: Final = {"LP_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # the processes are the parallelism


class EnvWorker(ConnectedHost):
    """A fresh process with one environment; satisfies `EnvHost`.

    The process starts when it is given its first environment. It imports what `make_env` names and nothing else: not
    the script of the caller, so no `if __name__ == "__main__"` is needed, and what the script itself defines is not
    found. Renderers get one thread (`LP_NUM_THREADS=1`). Pictures cross a pipe, only where somebody looks. It ends with
    the caller, even one that was killed.

    Args:
        timeout_s: Longest time that one call may take [s]. Starting the process and making the environment have five
            minutes.

    Raises:
        SettingError: If `timeout_s` is not positive and finite.

    Examples:
        >>> from functools import partial
        >>> from vla_kit.envs.episodes import begin_episode, run_chunk
        >>> from vla_kit.envs.registry import make_env
        >>> import numpy as np
        >>> with env_workers(2) as workers:
        ...     for seed, worker in enumerate(workers):
        ...         worker.give(partial(make_env, "metaworld/reach"))
        ...         worker.submit(begin_episode, seed)
        ...     scenes = [worker.result() for worker in workers]
        ...     for worker in workers:
        ...         worker.submit(run_chunk, np.zeros((8, 4)))
        ...     [worker.result().steps for worker in workers]
        [8, 8]
    """

    def __init__(self, *, timeout_s: float = 60.0) -> None:
        super().__init__(timeout_s=timeout_s)
        self._process: subprocess.Popen[bytes] | None = None

    def _open(self) -> "Connection[Any, Any]":
        ours, theirs = Pipe()
        self._process = start_worker(theirs.fileno())
        theirs.close()
        return ours

    def _end(self, wait_s: float) -> str:
        process, self._process = self._process, None
        if process is None:
            return ""
        if wait_s:
            with suppress(subprocess.TimeoutExpired):
                process.wait(wait_s)
        process.kill()
        return f" with status {process.wait()}"


def start_worker(connection: int) -> "subprocess.Popen[bytes]":
    """Start the process that holds an environment.

    Args:
        connection: File descriptor of the connection to whoever asks; the process inherits it.

    Returns:
        The process.
    """
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [sys.executable, "-m", "vla_kit.envs._worker", str(connection)],
        pass_fds=[connection],
        stdin=subprocess.DEVNULL,
        env={**os.environ, **_ONE_THREAD, "PYTHONPATH": paths},
    )


@contextmanager
def env_workers(count: int, *, timeout_s: float = 60.0) -> Iterator[list[EnvWorker]]:
    """Workers for a `with` block; all are ended after it, whatever happened.

    Args:
        count: Processes, at least 1. More than there are cores still pays where a policy answers batches.
        timeout_s: Longest time that one call may take [s].

    Yields:
        The workers, each without an environment yet.

    Raises:
        SettingError: If `count` is below 1 or `timeout_s` is not positive and finite.
    """
    if count < 1:
        raise SettingError(f"count must be at least 1, got {count}. Start a process at least.")
    workers = [EnvWorker(timeout_s=timeout_s) for _ in range(count)]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.hang_up()
        for worker in workers:
            worker.close()
