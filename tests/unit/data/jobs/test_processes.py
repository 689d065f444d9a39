import os
import signal
import time

import pytest
import torch

from vla_kit.data.jobs import Executor
from vla_kit.data.jobs.processes import ProcessExecutor
from vla_kit.errors import DataError, SettingError


def describe(block):
    folder, number = block
    if number == 0:  # held until the other process has taken a block, however late that process starts
        deadline = time.monotonic() + 60
        while not any(folder.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.01)
    else:
        (folder / str(number)).touch()
    return number, os.getpid(), torch.get_num_threads()


def mark(block):
    path, number = block
    (path / str(number)).touch()
    if number == 2:
        raise DataError("file 2 is broken")
    return number


def die(block):
    os.kill(os.getpid(), signal.SIGKILL)


def test_results_come_in_order_from_processes_of_one_thread(tmp_path):
    executor = ProcessExecutor(2)
    assert isinstance(executor, Executor)
    results = list(executor.map(describe, [(tmp_path, number) for number in range(6)]))
    assert [number for number, _, _ in results] == list(range(6))
    processes = {process for _, process, _ in results}
    assert os.getpid() not in processes
    assert len(processes) == 2
    assert {threads for _, _, threads in results} == {1}


def test_no_blocks_need_no_process():
    assert list(ProcessExecutor(2).map(describe, [])) == []


def test_an_error_names_its_block_and_ends_the_work(tmp_path):
    with pytest.raises(DataError, match="file 2 is broken") as caught:
        list(ProcessExecutor(1).map(mark, [(tmp_path, number) for number in range(50)]))
    assert caught.value.__notes__[-1].startswith("in block 2 of 50: (")
    assert len(list(tmp_path.iterdir())) < 10


@pytest.mark.slow
def test_little_is_done_ahead_of_a_caller_who_stops(tmp_path):
    results = ProcessExecutor(1).map(mark, [(tmp_path, number + 10) for number in range(50)])
    assert next(results) == 10
    results.close()
    assert len(list(tmp_path.iterdir())) <= 5


@pytest.mark.slow
def test_a_process_that_dies_is_an_error():
    with pytest.raises(RuntimeError) as caught:
        list(ProcessExecutor(1).map(die, ["block"]))
    assert caught.value.__notes__ == [
        "A process ended abruptly. If memory ran out, use fewer workers or smaller blocks.",
        "in block 0 of 1: 'block'",
    ]


def test_workers_are_checked():
    with pytest.raises(SettingError, match="workers must be at least 1, got 0"):
        ProcessExecutor(0)
