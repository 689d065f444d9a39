"""Choose what runs a job, from what a command line says."""

from collections.abc import Iterator
from contextlib import contextmanager

from vla_kit.data.jobs.executor import Executor, SerialExecutor
from vla_kit.errors import SettingError

__all__ = ["choose_executor"]


@contextmanager
def choose_executor(*, workers: int = 1, ray: str | None = None) -> Iterator[Executor]:
    """Open the executor of a verb, and close it in the end.

    Args:
        workers: Processes, or with `ray` blocks at a time. One without Ray runs in this process.
        ray: Address of a Ray cluster, `local` to start one on this machine, none where None. On a cluster, one worker
            means as many as it has cores for.

    Raises:
        SettingError: If `workers` is below 1.
        MissingExtraError: If `ray` is given and Ray is not installed.

    Examples:
        >>> with choose_executor(workers=1) as executor:
        ...     list(executor.map(len, ["a", "bc"]))
        [1, 2]
    """
    if workers < 1:
        raise SettingError(f"workers must be at least 1, got {workers}. Give the number of processes.")
    if ray is not None:
        from vla_kit.data.jobs.ray_data import RayExecutor  # an extra

        with RayExecutor(ray, workers=workers if workers > 1 else None) as executor:
            yield executor
    elif workers == 1:
        yield SerialExecutor()
    else:
        from vla_kit.data.jobs.processes import ProcessExecutor  # loads torch, which one process may not need

        yield ProcessExecutor(workers)
