"""Holds an environment for somebody who asks by messages: over a pipe, a network or through Ray."""

import pickle
import traceback
from typing import Any

from vla_kit.envs.hosts import facts_of
from vla_kit.envs.protocol import PolicyEnv
from vla_kit.errors import VLAKitError

__all__: list[str] = []


class EnvHolder:
    """One environment, or none yet."""

    def __init__(self) -> None:
        self._env: PolicyEnv | None = None

    def answer(self, message: bytes) -> tuple[Any, ...]:
        """Do what a message asks: `("make", make_env)` or `("run", function, arguments)`, pickled.

        Args:
            message: From `ConnectedHost`.

        Returns:
            `("answer", value)`, or `("error", error or None, its text, its trace)`.
        """
        try:
            what, *content = pickle.loads(message)
            if what == "make":
                self.close()
                (make_env,) = content
                self._env = make_env()
                return ("answer", facts_of(self._env))
            function, arguments = content
            return ("answer", function(self._env, *arguments))
        except Exception as error:  # it belongs to whoever asked
            return ("error", _portable(error), f"{type(error).__name__}: {error}", traceback.format_exc())

    def close(self) -> None:
        """Close the environment."""
        env, self._env = self._env, None
        if env is not None:
            env.close()


def _portable(error: Exception) -> VLAKitError | None:
    """An error of the library that survives the way; others travel as text."""
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:  # a constructor that takes more than its text
        return None
    return copy if isinstance(copy, VLAKitError) else None
