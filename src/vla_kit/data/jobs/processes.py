"""Run blocks of work in several processes of this machine."""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Final, TypeVar

import torch

from vla_kit.data.jobs.executor import name_block
from vla_kit.errors import SettingError

__all__ = ["ProcessExecutor"]

_WAITING_PER_WORKER: Final = 4  # blocks handed out ahead of the oldest one that is not finished

Block = TypeVar("Block")
Result = TypeVar("Result")


class ProcessExecutor:
    """Runs blocks in several processes of this machine; satisfies `Executor`.

    Processes are spawned, not forked, for every `map` and end with it: nothing is inherited, so that open videos,
    threads and CUDA do no harm. A script that uses it therefore needs `if __name__ == "__main__":`. A process computes
    with one thread, and ends when this process does, however it ends. A few blocks per process are handed out ahead,
    so memory holds a few results, not all of them.

    Args:
        workers: Processes.

    Raises:
        SettingError: If `workers` is below 1.

    Examples:
        >>> from math import prod
        >>> list(ProcessExecutor(2).map(prod, [[1, 2], [3, 4]]))
        [2, 12]
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise SettingError(f"workers must be at least 1, got {workers}. Give the number of processes.")
        self._workers = workers

    @property
    def workers(self) -> int:
        """Processes."""
        return self._workers

    def map(self, function: Callable[[Block], Result], blocks: Sequence[Block]) -> Iterator[Result]:
        """Results of `function` in the order of `blocks`, as they are ready.

        Raises:
            BrokenProcessPool: If a process was ended from outside, such as by a machine short of memory.
            Exception: What `function` raised, with a note that names the block. Blocks not yet begun are given up.
        """
        if not blocks:
            return
        pool = ProcessPoolExecutor(
            min(self._workers, len(blocks)), mp_context=get_context("spawn"), initializer=_begin_worker
        )
        waiting: deque[Future[Result]] = deque()
        upcoming = iter(blocks)
        try:
            for position in range(len(blocks)):
                try:
                    for block in islice(upcoming, _WAITING_PER_WORKER * self._workers - len(waiting)):
                        waiting.append(pool.submit(function, block))
                    result = waiting.popleft().result()
                except Exception as error:
                    if isinstance(error, BrokenProcessPool):
                        error.add_note(
                            "A process ended abruptly. If memory ran out, use fewer workers or smaller blocks."
                        )
                    name_block(error, blocks, position)
                    raise
                yield result
        finally:
            pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker at once and without a trace
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
