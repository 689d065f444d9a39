"""Where the environments of a rollout run; who plays does not see which."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from vla_kit.envs.hosts import EnvHere, EnvHost
from vla_kit.envs.remote import RemoteEnv, read_key
from vla_kit.envs.workers import EnvWorker
from vla_kit.errors import SettingError

__all__ = ["EnvPlace", "InProcesses", "InThisProcess", "OnServers"]


@runtime_checkable
class EnvPlace(Protocol):
    """Opens hosts: `InThisProcess`, `InProcesses`, `OnServers`, `vla_kit.envs.ray_place.OnRay`."""

    def open_hosts(self, count: int) -> Sequence[EnvHost]:
        """Hosts without an environment yet; whoever asked closes them.

        Annotate it just so: a command line compares annotations when it looks for classes that satisfy the protocol.
        """
        ...


class InThisProcess:
    """Environments one after another in the process of the policy: nothing is copied, and nothing runs at once.

    Best for several runs on one machine, a core each. A simulator that hangs or crashes takes the run along.

    Examples:
        >>> len(InThisProcess().open_hosts(3))
        3
    """

    def open_hosts(self, count: int) -> Sequence[EnvHost]:
        """Hosts of this process."""
        return [EnvHere() for _ in range(count)]


class InProcesses:
    """Each environment in a process of its own on this machine, restarted where it crashes or hangs.

    Args:
        timeout_s: Longest time that a chunk of actions may take [s].

    Raises:
        SettingError: If `timeout_s` is not positive and finite.

    Examples:
        >>> len(InProcesses(timeout_s=30).open_hosts(2))
        2
    """

    def __init__(self, *, timeout_s: float = 60.0) -> None:
        EnvWorker(timeout_s=timeout_s)
        self.timeout_s = timeout_s

    def open_hosts(self, count: int) -> Sequence[EnvHost]:
        """Workers; their processes start when they are given an environment."""
        return [EnvWorker(timeout_s=self.timeout_s) for _ in range(count)]


class OnServers:
    """Environments on servers of `vla-kit envs serve`, in turn; vla-kit and the simulators are installed there too.

    Args:
        addresses: `host:port` of each server.
        key_file: File with the key of the servers.
        timeout_s: Longest time that a chunk of actions may take [s].

    Raises:
        SettingError: If there is no server, an address is no `host:port`, the file holds no key, or `timeout_s` is not
            positive and finite.
    """

    def __init__(self, addresses: Sequence[str], *, key_file: str, timeout_s: float = 60.0) -> None:
        if not addresses:
            raise SettingError("addresses must name at least one server, got none. Name it such as 10.0.0.7:7010.")
        self.addresses = list(addresses)
        self.key_file = key_file
        self.timeout_s = timeout_s
        self.open_hosts(len(self.addresses))

    def open_hosts(self, count: int) -> Sequence[EnvHost]:
        """Hosts that connect when they are given an environment."""
        key = read_key(self.key_file)
        return [
            RemoteEnv(self.addresses[number % len(self.addresses)], key=key, timeout_s=self.timeout_s)
            for number in range(count)
        ]
