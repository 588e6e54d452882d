"""
Makes ``.venv``, with this package in it, at the versions of ``constraints.txt``.

Two callers at the same time wait for each other. The file ``.venv/ready`` is written last: without it, whatever is
there is not relied on.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

VENV = Path(".venv")
READY = VENV / "ready"
SOURCES = [Path("pyproject.toml"), Path("constraints.txt"), Path(__file__)]
EXTRAS = "emulator,demo,chaos,test"
OLDEST = (3, 11)


def is_ready() -> bool:
    """Whether the environment is there, newer than what it is made of, and of an interpreter that still exists."""
    return (
        READY.exists()
        and (VENV / "bin" / "python").exists()
        and all(READY.stat().st_mtime > source.stat().st_mtime for source in SOURCES)
    )


def run(*command: str) -> None:
    """Run a command, or end with its exit code."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    code = subprocess.run(command, env=env, check=False).returncode  # noqa: S603 - pip and venv
    if code:
        sys.exit(f"Installing has failed: {' '.join(command)}")


def make() -> None:
    """Make the environment."""
    if not (READY.exists() and (VENV / "bin" / "python").exists()):
        shutil.rmtree(VENV, ignore_errors=True)  # nothing, or what an interruption has left
        run(sys.executable, "-m", "venv", str(VENV))
    READY.unlink(missing_ok=True)
    pip = (str(VENV / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "install")
    # The build backend is pinned too, so the package is built with it and not with the newest one.
    run(*pip, "--constraint", "constraints.txt", "hatchling", "editables")
    run(*pip, "--constraint", "constraints.txt", "--no-build-isolation", "--editable", f".[{EXTRAS}]")
    READY.touch()


if __name__ == "__main__":
    if sys.version_info < OLDEST:
        sys.exit(f"Python {sys.version.split()[0]} is too old: give one of 3.11 or newer, as in make PYTHON=python3.12")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, it ends pip too
    with Path(__file__).open("rb") as lock:  # any file will do, and this one is there
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_ready():
            print("Installing into .venv, once (some minutes)", flush=True)  # noqa: T201 - a script
            make()
