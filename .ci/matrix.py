"""
Run the tests of the package's edges on each supported Airflow, with the packages as of its release.

``make matrix`` runs all of ``constraints/``, ``make matrix ONLY=airflow-3.1.8`` one. Each gets a virtual environment in
``.venv-matrix/``, made when it is missing or its pins have changed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

CONSTRAINTS = Path("constraints")
VENVS = Path(".venv-matrix")
TOOLS = ["hypothesis", "pytest", "pytest-timeout", "pytest-xdist"]
FOLDERS = ["hooks", "triggers", "operators", "jobs", "storage", "files", "sensors", "plugins"]
"""The folders of tests/ whose subject touches Airflow or its packages; those that do not exist are left out."""

PROCESSES = {"airflow-2.11.2", "airflow-3.1.8"}
"""A release of Airflow 2 and one of Airflow 3 that have no task state store: ``tests/older_airflow`` runs on them."""

WORKERS = 4
"""These tests wait more than they compute, so that two cores keep four workers busy."""


def environment() -> dict[str, str]:
    """Return our environment, without what would make every import of Airflow slow."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def make_venv(name: str) -> Path:
    """Return the interpreter of an environment with the pins of one file."""
    pins, venv = CONSTRAINTS / f"{name}.txt", VENVS / name
    python, ready = venv / "bin" / "python", venv / "ready"
    inputs = hashlib.sha256(pins.read_bytes() + Path("pyproject.toml").read_bytes()).hexdigest()
    if python.exists() and ready.exists() and ready.read_text("utf-8") == inputs:
        return python
    uv = str(Path(sys.executable).with_name("uv"))
    install = [uv, "pip", "install", "--quiet", f"--python={python}", f"--constraint={pins}"]
    for command in (
        [uv, "venv", "--quiet", "--clear", f"--python={sys.executable}", str(venv)],
        [*install, "hatchling", "editables"],
        # The bytecode is compiled as it is imported, by the first of the workers: most of it never is.
        [*install, "--no-build-isolation-package=airflow-provider-segmind", "--editable", ".[demo]", *TOOLS],
    ):
        subprocess.run(command, env=environment(), check=True)  # noqa: S603 - our own arguments
    ready.write_text(inputs, "utf-8")
    return python


def main() -> int:
    """Run the tests on the sets of versions that were asked for; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help="names of files in constraints/; all, if none is given")
    options, pytest_arguments = parser.parse_known_args()
    names = options.names or sorted(path.stem for path in CONSTRAINTS.glob("*.txt"))
    folders = [f"tests/{folder}" for folder in FOLDERS if Path("tests", folder).is_dir()]
    failed = []
    for name in names:
        began = time.monotonic()
        print(f"=== {name}", flush=True)  # noqa: T201 - a script
        pytest = [str(make_venv(name)), "-m", "pytest", "-q", f"--numprocesses={WORKERS}", "-p", "no:cacheprovider"]
        # Old releases of other packages warn of each other, which nobody will change.
        pytest += ["-W", "default"]
        # First, since it takes longest.
        tests = ["tests/older_airflow", *folders] if name in PROCESSES else folders
        code = subprocess.run([*pytest, *tests, *pytest_arguments], env=environment(), check=False).returncode  # noqa: S603
        print(f"=== {name}: exit code {code} after {time.monotonic() - began:.0f} s", flush=True)  # noqa: T201
        failed += [name] if code else []
    if failed:
        print(f"Failed: {', '.join(failed)}")  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
