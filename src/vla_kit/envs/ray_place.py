"""Environments on a Ray cluster: an actor each.

Needs `pip install 'vla-kit[ray]'`.
"""

import math
import os
import sys
from collections.abc import Sequence
from typing import Any

from vla_kit.envs._connected_host import ConnectedHost
from vla_kit.envs._holder import EnvHolder
from vla_kit.envs.hosts import EnvHost
from vla_kit.errors import MissingExtraError, SettingError

try:
    import ray
except ImportError as error:
    raise MissingExtraError("ray", extra="ray") from error

__all__ = ["OnRay", "RayEnv"]


class OnRay:
    """Environments as actors of a Ray cluster; satisfies `EnvPlace`.

    Uses the Ray that the caller has initialised; else joins the cluster at `address`, or starts Ray on this machine,
    without dashboard and telemetry. Every machine needs vla-kit and the simulators. An actor that dies is replaced
    where the cluster has room.

    Args:
        address: `local` to start Ray on this machine; else where a cluster is, such as `auto` on one of its machines.
        cores: Cores that an environment occupies; below 1, several share one.
        timeout_s: Longest time that a chunk of actions may take [s].

    Raises:
        MissingExtraError: On import, if Ray is not installed.
        SettingError: If `address` is empty, or a number is out of range.
    """

    def __init__(self, address: str = "local", *, cores: float = 0.25, timeout_s: float = 60.0) -> None:
        if not address:
            raise SettingError("address must be local or that of a cluster, got ''. Use local to start Ray here.")
        RayEnv(cores=cores, timeout_s=timeout_s)
        self.address = address
        self.cores = cores
        self.timeout_s = timeout_s

    def open_hosts(self, count: int) -> Sequence[EnvHost]:
        """Hosts whose actors start when they are given an environment."""
        if not ray.is_initialized():
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            alone = {"include_dashboard": False} if self.address == "local" else {}
            ray.init(address=self.address, log_to_driver=False, logging_level="warning", **alone)
        return [RayEnv(cores=self.cores, timeout_s=self.timeout_s) for _ in range(count)]


class RayEnv(ConnectedHost):
    """An environment in an actor; satisfies `EnvHost`. Ray must be initialised before it is given an environment.

    Args:
        cores: Cores that it occupies.
        timeout_s: Longest time that one call may take [s]. Starting the actor and making the environment have five
            minutes.

    Raises:
        SettingError: If `cores` is negative or not finite, or `timeout_s` is not positive and finite.
    """

    def __init__(self, *, cores: float = 0.25, timeout_s: float = 60.0) -> None:
        super().__init__(timeout_s=timeout_s)
        if not 0 <= cores < math.inf:
            raise SettingError(f"cores must be at least 0 and finite, got {cores}. Give the cores of an environment.")
        self.cores = cores
        self._actor: Any = None

    def _open(self) -> Any:  # noqa: ANN401 (what stands for a connection)
        paths = os.pathsep.join(path for path in sys.path if path)
        single = {"LP_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
        holder: Any = ray.remote(EnvHolder)
        self._actor = holder.options(num_cpus=self.cores, runtime_env={"env_vars": single}).remote()
        return _Calls(self._actor)

    def _end(self, wait_s: float) -> str:
        actor, self._actor = self._actor, None
        if actor is not None:
            ray.kill(actor)
        return " with its actor"


class _Calls:
    """Calls of an actor in the place of a connection."""

    def __init__(self, actor: Any) -> None:  # noqa: ANN401 (a handle of Ray)
        self._actor, self._asked = actor, None

    def send_bytes(self, message: bytes) -> None:
        self._asked = self._actor.answer.remote(message)

    def poll(self, timeout_s: float) -> bool:
        ready, _ = ray.wait([self._asked], timeout=timeout_s)
        return bool(ready)

    def recv(self) -> Any:  # noqa: ANN401 (a reply)
        try:
            return ray.get(self._asked)
        except ray.exceptions.RayError as error:
            raise EOFError(str(error)) from error

    def close(self) -> None:
        self._asked = None
