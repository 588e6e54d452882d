"""
Make ``.venv`` with this package and its development tools, at the versions of ``constraints.txt``.

Two callers at the same time wait for each other. The file ``.venv/ready`` is written last; an environment without it is
incomplete and is made again.
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
EXTRA = "dev"
OLDEST = (3, 11)


def is_ready() -> bool:
    """Return whether the environment is complete and up to date and its interpreter still exists."""
    return (
        READY.exists()
        and (VENV / "bin" / "python").exists()
        and all(READY.stat().st_mtime > source.stat().st_mtime for source in SOURCES)
    )


def run(*command: str) -> None:
    """Run a command, or exit with a message."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    code = subprocess.run(command, env=env, check=False).returncode  # noqa: S603 - pip and venv
    if code:
        sys.exit(f"The installation failed: {' '.join(command)}")


def make() -> None:
    """Create or update the environment."""
    if not (READY.exists() and (VENV / "bin" / "python").exists()):
        shutil.rmtree(VENV, ignore_errors=True)  # an interrupted installation may have left a part
        run(sys.executable, "-m", "venv", str(VENV))
    READY.unlink(missing_ok=True)
    pip = (str(VENV / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "install")
    # The build backend is installed first and used without isolation, so that its version is pinned as well.
    run(*pip, "--constraint", "constraints.txt", "hatchling", "editables")
    run(*pip, "--constraint", "constraints.txt", "--no-build-isolation", "--editable", f".[{EXTRA}]")
    READY.touch()


if __name__ == "__main__":
    if sys.version_info < OLDEST:
        sys.exit(f"Python {sys.version.split()[0]} is too old. Use 3.11 or newer, for example: make PYTHON=python3.12")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # SystemExit makes subprocess.run end pip as well
    with Path(__file__).open("rb") as lock:  # any file that exists can carry the lock
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_ready():
            print("Installing the dependencies into .venv (one to three minutes, only the first time)", flush=True)  # noqa: T201 - a script
            make()
