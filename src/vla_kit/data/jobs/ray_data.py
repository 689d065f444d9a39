"""Run blocks of work on a Ray cluster, through Ray Data."""

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar

from vla_kit.data.jobs.executor import name_block
from vla_kit.errors import MissingExtraError, SettingError

try:
    import ray
    import ray.data
    from ray import cloudpickle
except ImportError as error:
    raise MissingExtraError("ray", extra="ray") from error

__all__ = ["RayExecutor"]

_TELEMETRY: Final = "RAY_USAGE_STATS_ENABLED"

Block = TypeVar("Block")
Result = TypeVar("Result")


class RayExecutor:
    """Runs blocks on a Ray cluster; satisfies `Executor`.

    Uses the Ray that the caller has initialised; else joins the cluster at `address`, or starts Ray on this machine,
    quiet and without dashboard and telemetry. What it began ends with `close` or the `with` block. Every machine needs
    vla-kit and must see the data under the same path. Ray runs a block again where a machine is lost, so a function
    must give the same when it runs twice.

    As ever with Ray, the one started here listens on every network interface, guarded by a token in recent releases.
    With the environment variable `RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0`, on Linux too, it listens to this machine alone.

    Args:
        address: `local` to start Ray on this machine; else where a cluster is, such as `auto` on one of its machines
            or `ray://host:10001`.
        workers: Blocks at a time; as many as there are cores where None. A Ray started here has so many cores.
        cores_per_block: Cores that a block occupies.

    Raises:
        MissingExtraError: On import, if Ray is not installed.
        SettingError: If `workers` is below 1 or `cores_per_block` is not positive.

    Examples:
        ```
        with RayExecutor(address="auto") as executor:
            totals = list(executor.map(sum, [[1, 2], [3, 4]]))
        ```
    """

    def __init__(self, address: str = "local", *, workers: int | None = None, cores_per_block: float = 1.0) -> None:
        if workers is not None and workers < 1:
            raise SettingError(f"workers must be at least 1, got {workers}. Give the number of blocks at a time.")
        if not cores_per_block > 0:
            raise SettingError(f"cores_per_block must be positive, got {cores_per_block}. Give the cores of a block.")
        self._workers, self._cores = workers, cores_per_block
        self._began = not ray.is_initialized()
        if self._began:
            _begin(address, workers)

    def map(self, function: Callable[[Block], Result], blocks: Sequence[Block]) -> Iterator[Result]:
        """Results of `function` in the order of `blocks`, as they are ready.

        Raises:
            Exception: What `function` raised, with a note that names the block.
        """
        if not blocks:
            return
        shipped = cloudpickle.dumps(function)
        rows = [{"position": place, "block": cloudpickle.dumps(block)} for place, block in enumerate(blocks)]
        data = ray.data.from_items(rows, override_num_blocks=len(rows))
        data.context.execution_options.preserve_order = True
        data.context.enable_progress_bars = False
        data.context.print_on_execution_start = False
        results = data.map(
            _run,
            fn_kwargs={"function": shipped},
            num_cpus=self._cores,
            compute=ray.data.TaskPoolStrategy(self._workers),
        ).iter_rows()
        for row in results:
            result = pickle.loads(row["result"])
            if row["failed"]:
                name_block(result, blocks, row["position"])
                raise result
            yield result

    def close(self) -> None:
        """Leave the cluster, or end the Ray that was started here. Does nothing to a Ray that the caller began."""
        if self._began and ray.is_initialized():
            ray.shutdown()
        self._began = False

    def __enter__(self) -> "RayExecutor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _run(row: dict[str, Any], *, function: bytes) -> dict[str, Any]:
    """Answer one row. An error travels as a value: Ray would wrap it in its own, and try again in vain."""
    try:
        result, failed = pickle.loads(function)(pickle.loads(row["block"])), False
    except Exception as error:
        result, failed = error, True
    return {"position": row["position"], "failed": failed, "result": cloudpickle.dumps(result)}


def _begin(address: str, workers: int | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "warning"}
    if address != "local":
        ray.init(address=address, **quiet)
        return
    asked = os.environ.get(_TELEMETRY)
    os.environ[_TELEMETRY] = "0"
    try:
        ray.init(address="local", num_cpus=workers, include_dashboard=False, **quiet)
    finally:
        if asked is None:
            del os.environ[_TELEMETRY]
        else:
            os.environ[_TELEMETRY] = asked
