import sys

import pytest

from vla_kit.data.jobs import SerialExecutor, choose_executor
from vla_kit.data.jobs.processes import ProcessExecutor
from vla_kit.errors import MissingExtraError, SettingError


def test_one_worker_is_this_process_and_more_are_processes():
    with choose_executor() as executor:
        assert isinstance(executor, SerialExecutor)
    with choose_executor(workers=3) as executor:
        assert isinstance(executor, ProcessExecutor)
        assert executor.workers == 3


def test_workers_are_checked():
    with pytest.raises(SettingError, match="workers must be at least 1, got 0"), choose_executor(workers=0):
        pass


def test_a_missing_ray_names_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "vla_kit.data.jobs.ray_data", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'vla-kit\[ray\]'"), choose_executor(ray="local"):
        pass
