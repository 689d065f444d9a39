"""Environments in processes of their own: they step in parallel, and one that crashes or hangs takes nothing along."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Final

from vla_kit.envs.hosts import EnvFacts
from vla_kit.envs.protocol import PolicyEnv, SimulationError
from vla_kit.errors import SettingError

__all__ = ["EnvWorker", "env_workers"]

_START_S: Final = 300.0
"""To start a process and build a simulator: many at once share the processor and the disk."""

_END_S: Final = 10.0
_ONE_THREAD: Final = {"LP_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # the processes are the parallelism


class EnvWorker:
    """A fresh process with one environment; satisfies `EnvHost`.

    The process starts when it is given its first environment. It imports what `make_env` names and nothing else: not
    the script of the caller, so no `if __name__ == "__main__"` is needed, and what the script itself defines is not
    found. Renderers get one thread (`LP_NUM_THREADS=1`). Pictures cross a pipe, only where somebody looks. It ends with
    the caller, even one that was killed.

    Args:
        timeout_s: Longest time that one call may take [s]. Starting the process and making the environment have five
            minutes.

    Raises:
        SettingError: If `timeout_s` is not positive.

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
        if not timeout_s > 0:
            raise SettingError(f"timeout_s must be above 0, got {timeout_s}. Use 60.")
        self.timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection[Any, Any] | None = None
        self._recipe: bytes | None = None
        self._facts: EnvFacts | None = None
        self._making = self._asked = False

    def give(self, make_env: Callable[[], PolicyEnv]) -> None:
        """Replace the environment by one that `make_env` makes there, without waiting; an equal one stays.

        Args:
            make_env: Pickled, so give `functools.partial(make_env, name)` and no lambda.

        Raises:
            SettingError: If it cannot be pickled.
        """
        try:
            recipe = pickle.dumps(("make", make_env))
        except Exception as error:  # pickle raises whatever the object raises
            raise SettingError(
                f"make_env must be picklable for a worker process, got {make_env!r} ({error}). Use functools.partial "
                "of a function that a module holds, or run in this process."
            ) from error
        if recipe != self._recipe or self._process is None:
            if self._making:
                self._wait_for_facts()
            self._recipe = recipe
            self._make()

    @property
    def facts(self) -> EnvFacts:
        """What the environment says of itself; waits until it is made.

        Raises:
            SimulationError: If it cannot be made.
        """
        return self._wait_for_facts()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> None:  # noqa: ANN401 (whatever it takes)
        """Ask for `function(env, *arguments)` there, without waiting.

        Args:
            function: Pickled by its name.
            *arguments: Pickled.

        Raises:
            SimulationError: If an answer was not collected yet.
        """
        if self._asked:
            raise SimulationError("submit must come after result, got a second question. Collect the answer first.")
        self._wait_for_facts()
        self._send(pickle.dumps(("run", function, arguments)))
        self._asked = True

    def result(self) -> Any:  # noqa: ANN401 (whatever the function returns)
        """Wait for the answer.

        Raises:
            SimulationError: If nothing was asked, or the environment raised, died, or did not answer in time.
            VLAKitError: If the environment refused what it was asked.
        """
        if not self._asked:
            raise SimulationError("result must come after submit, got nothing to wait for. Call submit first.")
        self._asked = False
        return self._receive(self.timeout_s)

    def restart(self) -> None:
        """End the process and make the environment in a new one, without waiting."""
        self._kill()
        if self._recipe is not None:
            self._make()

    def hang_up(self) -> None:
        """Tell the process to close its environment and to end, without waiting."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    def close(self) -> None:
        """End the process; one that does not end by itself is killed. Closing twice is fine."""
        self.hang_up()
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
        self._kill()

    def _make(self) -> None:
        """Send the recipe, to a new process if there is none."""
        if self._process is None:
            self._pipe, theirs = Pipe()
            paths = os.pathsep.join(path for path in sys.path if path)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vla_kit.envs._worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **_ONE_THREAD, "PYTHONPATH": paths},
            )
            theirs.close()
        self._facts, self._making, self._asked = None, True, False
        assert self._recipe is not None  # noqa: S101 (callers have set it)
        self._send(self._recipe)

    def _wait_for_facts(self) -> EnvFacts:
        if self._making:
            self._making = False
            self._facts = self._receive(_START_S)
        if self._facts is None:
            raise SimulationError("a host must hold an environment, got none. Call give(make_env) first.")
        return self._facts

    def _send(self, message: bytes) -> None:
        if self._pipe is not None:
            with suppress(OSError):  # it died; whoever waits for the answer is told
                self._pipe.send_bytes(message)

    def _receive(self, timeout_s: float) -> Any:  # noqa: ANN401 (whatever the function returns)
        if self._pipe is None or self._process is None:
            raise SimulationError("a worker must be open, got one that was closed or given up. Call restart first.")
        try:
            if not self._pipe.poll(timeout_s):
                self._kill()
                raise SimulationError(
                    f"a worker must answer within {timeout_s:g} s, got no answer. The simulator hangs; where it is "
                    "only slow, raise timeout_s."
                )
            kind, *content = self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            status = self._process.wait()
            self._kill()
            raise SimulationError(
                f"a worker must live until it answers, got one that ended with status {status} (out of memory, or a "
                "crash of the simulator or its renderer). Run in this process to see where."
            ) from error
        if kind == "answer":
            return content[0]
        portable, text, trace = content
        raised = portable or SimulationError(f"the environment must not fail, got {text}")
        raised.add_note(f"In the worker process:\n{trace}")
        raise raised

    def _kill(self) -> None:
        self.hang_up()
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        self._facts, self._making, self._asked = None, False, False


@contextmanager
def env_workers(count: int, *, timeout_s: float = 60.0) -> Iterator[list[EnvWorker]]:
    """Workers for a `with` block; all are ended after it, whatever happened.

    Args:
        count: Processes, at least 1. More than there are cores still pays where a policy answers batches.
        timeout_s: Longest time that one call may take [s].

    Yields:
        The workers, each without an environment yet.

    Raises:
        SettingError: If `count` is below 1 or `timeout_s` is not positive.
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
