"""Where an environment runs: in this process, or in one of its own behind the same five calls."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from vla_kit.envs.protocol import Action, PolicyEnv, SimulationError
from vla_kit.errors import VLAKitError

__all__ = ["EnvFacts", "EnvHere", "EnvHost", "facts_of"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EnvFacts:
    """What an environment says of itself before any episode; see `PolicyEnv` for each.

    Args:
        task: Name in the registry.
        embodiment: Name of the robot.
        view_tags: Keys of `look`.
        max_steps: Decisions after which an unsolved episode ends.
        rate_hz: Decisions per simulated second [Hz].
        action_low: Lowest action, in native units.
        action_high: Highest action, in native units.
    """

    task: str
    embodiment: str
    view_tags: tuple[str, ...]
    max_steps: int
    rate_hz: float
    action_low: Action
    action_high: Action


def facts_of(env: PolicyEnv) -> EnvFacts:
    """Read the facts of an environment.

    Args:
        env: The environment.

    Returns:
        Its properties, apart from it.
    """
    return EnvFacts(
        task=env.task,
        embodiment=env.embodiment,
        view_tags=tuple(env.view_tags),
        max_steps=env.max_steps,
        rate_hz=env.rate_hz,
        action_low=env.action_low,
        action_high=env.action_high,
    )


class EnvHost(Protocol):
    """Holds one environment and runs functions on it, one at a time.

    `submit` asks and `result` waits, so that many hosts work at once: submit to all, then collect. A function gets the
    environment first, such as those of `vla_kit.envs.episodes`.
    """

    def give(self, make_env: Callable[[], PolicyEnv]) -> None:
        """Replace the environment by one that `make_env` makes."""
        ...

    @property
    def facts(self) -> EnvFacts:
        """What the environment says of itself."""
        ...

    def submit(self, function: Callable[..., Any], *arguments: Any) -> None:  # noqa: ANN401 (whatever it takes)
        """Ask for `function(env, *arguments)`. Collect the result before the next call."""
        ...

    def result(self) -> Any:  # noqa: ANN401 (whatever the function returns)
        """Wait for the answer.

        Raises:
            SimulationError: If the environment failed: `restart` before going on.
            VLAKitError: If the environment refused what it was asked, such as an action of another size.
        """
        ...

    def restart(self) -> None:
        """Give up the environment, whatever state it is in, and make it anew."""
        ...

    def close(self) -> None:
        """Close the environment."""
        ...


class EnvHere:
    """An environment of this process; satisfies `EnvHost`. A simulator that hangs or crashes takes the process along.

    Examples:
        >>> from functools import partial
        >>> from vla_kit.envs.episodes import begin_episode
        >>> from vla_kit.envs.registry import make_env
        >>> host = EnvHere()
        >>> host.give(partial(make_env, "metaworld/reach"))
        >>> host.submit(begin_episode, 0)
        >>> host.result().instruction
        'go to the red ball'
        >>> host.close()
    """

    def __init__(self) -> None:
        self._make: Callable[[], PolicyEnv] | None = None
        self._env: PolicyEnv | None = None
        self._asked: tuple[Callable[..., Any], tuple[Any, ...]] | None = None

    def give(self, make_env: Callable[[], PolicyEnv]) -> None:
        """Replace the environment; the same `make_env` again changes nothing."""
        if make_env is not self._make or self._env is None:
            self._make = make_env
            self.restart()

    @property
    def facts(self) -> EnvFacts:
        """What the environment says of itself."""
        return facts_of(self._held())

    def submit(self, function: Callable[..., Any], *arguments: Any) -> None:  # noqa: ANN401 (whatever it takes)
        """Remember what to run."""
        self._asked = (function, arguments)

    def result(self) -> Any:  # noqa: ANN401 (whatever the function returns)
        """Run it.

        Raises:
            SimulationError: If nothing was asked, or the environment failed in any way but a refusal.
        """
        if self._asked is None:
            raise SimulationError("result must come after submit, got nothing to wait for. Call submit first.")
        (function, arguments), self._asked = self._asked, None
        try:
            return function(self._held(), *arguments)
        except VLAKitError:
            raise
        except Exception as error:  # whatever a simulator raises
            raise SimulationError(f"the environment must not fail, got {type(error).__name__}: {error}") from error

    def restart(self) -> None:
        """Close the environment and make it anew."""
        self.close()
        if self._make is not None:
            self._env = self._make()

    def close(self) -> None:
        """Close the environment; closing twice is fine."""
        self._asked = None
        env, self._env = self._env, None
        if env is not None:
            env.close()

    def _held(self) -> PolicyEnv:
        if self._env is None:
            raise SimulationError("a host must hold an environment, got none. Call give(make_env) first.")
        return self._env
