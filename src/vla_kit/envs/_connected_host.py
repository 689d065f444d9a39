"""A host at the other end of a connection, whoever holds the environment there: see `_worker`."""

import math
import pickle
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Final

from vla_kit.envs.hosts import EnvFacts
from vla_kit.envs.protocol import PolicyEnv, SimulationError
from vla_kit.errors import SettingError

__all__: list[str] = []

_START_S: Final = 300.0
"""To start a process and build a simulator: many at once share the processor and the disk."""
_END_S: Final = 10.0


class ConnectedHost(ABC):
    """An environment of a process at the other end of a connection; satisfies `EnvHost`.

    Args:
        timeout_s: Longest time that one call may take [s]. Making the environment has five minutes.

    Raises:
        SettingError: If `timeout_s` is not positive and finite.
    """

    def __init__(self, *, timeout_s: float) -> None:
        if not 0 < timeout_s < math.inf:
            raise SettingError(f"timeout_s must be above 0 and finite, got {timeout_s}. Use 60.")
        self.timeout_s = timeout_s
        self._pipe: Connection[Any, Any] | None = None
        self._recipe: bytes | None = None
        self._facts: EnvFacts | None = None
        self._making = self._asked = False

    @abstractmethod
    def _open(self) -> "Connection[Any, Any]":
        """Connect to a new process."""

    @abstractmethod
    def _end(self, wait_s: float) -> str:
        """End the process, whose connection is closed, if it does not end by itself in time; how it ended, if known."""

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
        if recipe != self._recipe or self._pipe is None:
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
        self._forget()
        if self._recipe is not None:
            self._make()

    def hang_up(self) -> None:
        """Tell the process to close its environment and to end, without waiting."""
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

    def close(self) -> None:
        """End the process, which has ten seconds to close its environment. Closing twice is fine."""
        self._forget(wait_s=_END_S)

    def _make(self) -> None:
        """Send the recipe, to a new process if there is none."""
        if self._pipe is None:
            self._pipe = self._open()
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
        if self._pipe is None:
            raise SimulationError("a worker must be open, got one that was closed or given up. Call restart first.")
        try:
            if not self._pipe.poll(timeout_s):
                self._forget()
                raise SimulationError(
                    f"a worker must answer within {timeout_s:g} s, got no answer. The simulator hangs; where it is "
                    "only slow, raise timeout_s."
                )
            kind, *content = self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise SimulationError(
                f"a worker must live until it answers, got one that ended{self._forget(wait_s=_END_S)} (out of memory, "
                "or a crash of the simulator or its renderer). Run in this process to see where."
            ) from error
        if kind == "answer":
            return content[0]
        portable, text, trace = content
        raised = portable or SimulationError(f"the environment must not fail, got {text}")
        raised.add_note(f"In the worker process:\n{trace}")
        raise raised

    def _forget(self, *, wait_s: float = 0.0) -> str:
        """End the process, at once or after a time in which it may end by itself; tells how it ended."""
        self.hang_up()
        self._facts, self._making, self._asked = None, False, False
        return self._end(wait_s)
