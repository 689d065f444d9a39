"""An environment of its own for openpi-client, whose numpy is older than ours."""

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ["openpi-client==0.1.2", "typing-extensions"]  # the second is imported by the first, but not required


@pytest.fixture(scope="session")
def openpi_python() -> Path:
    """Interpreter with openpi-client as it is on PyPI; made once, within the environment that runs the tests."""
    folder = Path(sys.prefix) / "cache" / "openpi-client-0.1.2"
    python, complete = folder / "bin" / "python", folder / "complete"
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process makes it, the others wait
        if not complete.exists():
            install = [python, "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--retries=1", *PACKAGES]
            for command in ([sys.executable, "-m", "venv", "--clear", folder], install):
                done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
                if done.returncode:
                    lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
                    pytest.skip(f"no environment for openpi-client could be made: {lines[-1]}")
            complete.touch()
    return python
